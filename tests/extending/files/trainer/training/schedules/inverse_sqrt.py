"""The inverse square root of the step, which needs no end to be known."""

from __future__ import annotations

import math

from trainer.config import OptimConfig


def inverse_sqrt(optim: OptimConfig, step: int, warmup: int, total_steps: int) -> float:
    """Share of the peak rate: 1 at the end of the warm-up, a half after three timescales."""
    return math.sqrt(optim.timescale / (optim.timescale + step - warmup))
