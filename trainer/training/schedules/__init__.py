"""Shapes of the learning rate after warm-up, as shares of the peak rate.

`step` is counted from 0; the first `warmup` of `total_steps` are the warm-up, and no shape is asked for those.
"""

from __future__ import annotations

import math

from trainer.config import OptimConfig


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


def _progress(step: int, start: int, total_steps: int) -> float:
    """Share of the steps from `start` on that are done with this one: 1 at the last."""
    return (step - start + 1) / max(1, total_steps - start)


def _down_to(lowest: float, shape: float) -> float:
    """A shape that falls from 1 to 0, as one that falls from 1 to `lowest`."""
    return lowest + (1 - lowest) * shape
