"""Shapes of the learning rate after warm-up, as shares of the peak rate.

`step` is counted from 0; the first `warmup` of `total_steps` are the warm-up, and no shape is asked for those.
"""

from __future__ import annotations

import math

from trainer.config import OptimConfig
from trainer.descriptions.schedules import SCHEDULES
from trainer.descriptions.schedules.pieces import PieceConfig


def cosine(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """Half a cosine down to `min_lr_ratio` at the last step (Loshchilov and Hutter 2017)."""
    return _down_to(optim.min_lr_ratio, 0.5 * (1 + math.cos(math.pi * _progress(step, warmup, total_steps))))


def linear(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """A straight line down to `min_lr_ratio` at the last step."""
    return _down_to(optim.min_lr_ratio, 1 - _progress(step, warmup, total_steps))


def wsd(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """The peak rate, then a straight line over the last `decay_fraction` of the steps (Hu et al. 2024)."""
    start = max(warmup, total_steps - math.ceil(optim.decay_fraction * total_steps))
    return 1.0 if step < start else linear(optim, step, start, total_steps)


def constant(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """The peak rate."""
    return 1.0


def pieces(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """The pieces of `optim.pieces` one after the other, each from where the last one ended; then the rate stays."""
    level, begin = 0.0 if optim.pieces[0].shape == "warmup" else 1.0, 0
    stated = SCHEDULES["pieces"].steps_stated(optim, total_steps)
    for piece in optim.pieces:
        length = piece.length(total_steps)
        end = begin + (max(0, total_steps - stated) if length is None else length)
        if step < end:
            return _within(piece, level, step, begin, end)
        if end > begin:
            level, begin = _within(piece, level, end - 1, begin, end), end
    return level


def _within(piece: PieceConfig, level: float, step: int, begin: int, end: int) -> float:
    """The rate in a piece over steps [begin, end) that begins from `level`."""
    done = _progress(step, begin, end)
    to = piece.to if piece.to is not None else float(piece.shape == "warmup")
    match piece.shape:
        case "constant":
            return level
        case "inverse_sqrt":  # Vaswani et al. 2017, equation 3
            return level * math.sqrt(max(1, begin) / max(1, step + 1))
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
