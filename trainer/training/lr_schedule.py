"""The learning rate is a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from trainer.config import OptimConfig


def learning_rate(optim: OptimConfig, step: int, total_steps: int) -> float:
    """The rate of update number `step`, counted from 0 to total_steps - 1.

    Linear warm-up to `optim.lr`, then: cosine or linear down to `min_lr_ratio` of it at the last step (Loshchilov and
    Hutter 2017); wsd stays, then falls linearly over the last `decay_fraction` of the steps (Hu et al. 2024); constant
    stays.
    """
    warmup = optim.warmup_steps if optim.warmup_steps is not None else min(total_steps // 10, 2000)
    if step < warmup:
        return optim.lr * (step + 1) / warmup
    start = warmup
    if optim.schedule == "wsd":
        start = max(start, total_steps - math.ceil(optim.decay_fraction * total_steps))
    if optim.schedule == "constant" or step < start:
        return optim.lr
    progress = (step - start + 1) / max(1, total_steps - start)
    shape = 0.5 * (1 + math.cos(math.pi * progress)) if optim.schedule == "cosine" else 1 - progress
    return optim.lr * (optim.min_lr_ratio + (1 - optim.min_lr_ratio) * shape)


def expected_steps(step: int, used: float) -> int:
    """Steps of a run that a measured budget ends: `step` steps took the share `used` of it (0 to 1).

    So the schedule follows the budget and arrives at its end together with it (as in Geiping and Goldstein 2022).
    """
    return math.ceil((step + 1) / max(used, 1e-6))
