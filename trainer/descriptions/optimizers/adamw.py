"""Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

from __future__ import annotations

from trainer.descriptions.optimizers import OptimizerDescription
from trainer.utils.schema import key


class AdamW(OptimizerDescription):
    name = "adamw"
    help = "Adam with decoupled weight decay"
    implementation = "trainer.training.optimizers.adamw:adamw"
    states = ("exp_avg", "exp_avg_sq")
    counts_steps = True

    class Keys(OptimizerDescription.Keys):
        beta1: float = key(0.9, "decay of the first moment", ge=0, lt=1)
        beta2: float = key(0.95, "decay of the second moment", ge=0, lt=1)
        epsilon: float = key(1e-8, "added to the root of the second moment", gt=0)
