"""Shapes of the learning rate after warm-up, as shares of the peak rate, and of other values that change along a run.

`step` is counted from 0; the first `warmup` of `total_steps` are the warm-up, and no shape is asked for those.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from trainer.config import OptimConfig
from trainer.descriptions.schedules.pieces import ValuePieceConfig, spans


def cosine(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """Half a cosine down to `min_lr_ratio` at the last step (Loshchilov and Hutter 2017)."""
    return _down_to(optim.min_lr_ratio, 0.5 * (1 + math.cos(math.pi * _progress(step, warmup, total_steps))))


def linear(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """A straight line down to `min_lr_ratio` at the last step."""
    return _down_to(optim.min_lr_ratio, 1 - _progress(step, warmup, total_steps))


def wsd(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """The peak rate, then a straight line over the last `decay_fraction` of the steps (Hu et al. 2024)."""
    start = decay_start(optim, warmup, total_steps)
    return 1.0 if step < start else linear(optim, step, start, total_steps)


def decay_start(optim: OptimConfig, warmup: int, total_steps: int) -> int:
    """The first step of the decay of wsd."""
    return max(warmup, total_steps - math.ceil(optim.decay_fraction * total_steps))


def constant(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """The peak rate."""
    return 1.0


def pieces(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """The pieces of `optim.pieces` one after the other, each from where the last one ended; then the rate stays."""
    parts = [
        _Part(piece.shape, None, float(piece.shape == "warmup") if piece.to is None else piece.to, begin, end)
        for piece, begin, end in spans(optim.pieces, total_steps)
    ]
    return _along(parts, 0.0 if optim.pieces[0].shape == "warmup" else 1.0, step)


def value(pieces: Sequence[ValuePieceConfig], stated: float, step: int, total_steps: int) -> float:
    """What stands for a key's value `stated` in an update: the pieces one after the other, then the value stays."""
    parts = [
        _Part(piece.shape, piece.start, stated if piece.to is None else piece.to, begin, end)
        for piece, begin, end in spans(pieces, total_steps)
    ]
    return _along(parts, stated, step)


class _Part(NamedTuple):
    """A piece over steps begin .. end - 1."""

    shape: str
    start: float | None  # None: where the part before it ended
    to: float  # the level at its last step
    begin: int
    end: int


def _along(parts: Iterable[_Part], level: float, step: int) -> float:
    """The level at a step, of parts one after the other; `level` is that before the first one."""
    for part in parts:
        if part.begin == part.end:
            continue
        level = level if part.start is None else part.start
        if step < part.end:
            return _within(part, level, step)
        level = _within(part, level, part.end - 1)
    return level


def _within(part: _Part, level: float, step: int) -> float:
    """The level in a part that begins from `level`."""
    done, to = _progress(step, part.begin, part.end), part.to
    match part.shape:
        case "constant":
            return level
        case "inverse_sqrt":  # Vaswani et al. 2017, equation 3
            return level * math.sqrt(max(1, part.begin) / max(1, step + 1))
        case "cosine":
            return to + (level - to) * 0.5 * (1 + math.cos(math.pi * done))
        case "sqrt":  # Hagele et al. 2024
            return to + (level - to) * (1 - math.sqrt(done))
        case _:
            return level + (to - level) * done


def _progress(step: int, start: int, total_steps: int) -> float:
    """Share of the steps from `start` on that are done with this one: 1 at the last."""
    return (step - start + 1) / max(1, total_steps - start)


def _down_to(lowest: float, shape: float) -> float:
    """A shape that falls from 1 to 0, as one that falls from 1 to `lowest`."""
    return lowest + (1 - lowest) * shape
