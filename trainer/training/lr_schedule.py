"""The learning rate is a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from trainer.books.run_length import warmup_steps
from trainer.config import OptimConfig
from trainer.descriptions.schedules import SCHEDULES


def learning_rate(optim: OptimConfig, step: int, total_steps: int) -> float:
    """The rate of update number `step`, counted from 0 to total_steps - 1.

    Linear warm-up to `optim.lr`, then the shares of it that `optim.schedule` gives (trainer/training/schedules).
    """
    warmup = warmup_steps(optim, total_steps)
    if step < warmup:  # of every schedule by the same arithmetic, so that two which share it are equal to the bit
        return optim.lr * SCHEDULES[optim.schedule].warmup_to(optim) * (step + 1) / warmup
    share: float = SCHEDULES.implementation(optim.schedule)(optim, step, warmup, total_steps)
    return optim.lr * share


def expected_steps(step: int, used: float) -> int:
    """Steps of a run that a measured budget ends: `step` steps took the share `used` of it (0 to 1).

    So the schedule follows the budget and arrives at its end together with it (as in Geiping and Goldstein 2022).
    """
    return math.ceil((step + 1) / max(used, 1e-6))
