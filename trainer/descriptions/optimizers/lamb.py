"""LAMB (You et al. 2020)."""

from __future__ import annotations

from typing import ClassVar

from trainer.descriptions.optimizers import OptimizerDescription
from trainer.descriptions.optimizers.keys import Betas, Epsilon


class Lamb(OptimizerDescription):
    name = "lamb"
    help = "Adam's update of each parameter, scaled to the parameter's own norm, for large batches (ALBERT)"
    implementation = "trainer.training.optimizers.lamb:lamb"
    states = ("exp_avg", "exp_avg_sq")
    momentum = "beta1"
    counts_steps = True
    by_role = True
    mup_power: ClassVar[float | None] = None

    class Keys(Epsilon, Betas):
        pass
