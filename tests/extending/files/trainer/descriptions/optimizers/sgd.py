"""Stochastic gradient descent, plain and with momentum (Polyak 1964)."""

from __future__ import annotations

from trainer.descriptions.optimizers import OptimizerDescription
from trainer.utils.schema import key


class Sgd(OptimizerDescription):
    name = "sgd"
    help = "stochastic gradient descent"
    implementation = "trainer.training.optimizers.sgd:sgd"
    states = ()


class SgdMomentum(OptimizerDescription):
    name = "sgd_momentum"
    help = "stochastic gradient descent with momentum"
    implementation = "trainer.training.optimizers.sgd:sgd_momentum"
    states = ("momentum_buffer",)

    class Keys(OptimizerDescription.Keys):
        momentum: float = key(0.9, "share of the last update that the next one keeps", ge=0, lt=1)
