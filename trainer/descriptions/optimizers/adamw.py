"""Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

from __future__ import annotations

from trainer.descriptions.optimizers import OptimizerDescription
from trainer.descriptions.optimizers.keys import Betas, Epsilon


class AdamW(OptimizerDescription):
    name = "adamw"
    help = "Adam with decoupled weight decay"
    implementation = "trainer.training.optimizers.adamw:adamw"
    states = ("exp_avg", "exp_avg_sq")
    momentum = "beta1"
    counts_steps = True
    leaves_out = True

    class Keys(Epsilon, Betas):
        pass
