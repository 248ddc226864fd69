"""Lion (Chen et al. 2023)."""

from __future__ import annotations

from trainer.descriptions.optimizers import OptimizerDescription
from trainer.descriptions.optimizers.keys import Betas


class Lion(OptimizerDescription):
    name = "lion"
    help = "the sign of an interpolated momentum; beta1 interpolates, beta2 decays it (optim=lion: 0.9 and 0.99)"
    implementation = "trainer.training.optimizers.lion:lion"
    states = ("exp_avg",)
    momentum = "beta1"

    class Keys(Betas):
        pass
