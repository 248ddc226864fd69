"""Stochastic gradient descent with momentum (Polyak 1964)."""

from __future__ import annotations

from typing import ClassVar

from trainer.descriptions.optimizers import OptimizerDescription
from trainer.descriptions.optimizers.keys import Nesterov
from trainer.utils.schema import key


class Sgd(OptimizerDescription):
    name = "sgd"
    help = "stochastic gradient descent with momentum and decoupled weight decay"
    implementation = "trainer.training.optimizers.sgd:sgd"
    states = ("momentum_buffer",)
    momentum = "momentum"
    mup_power: ClassVar[float | None] = None
    follows_gradient = True

    class Keys(Nesterov):
        momentum: float = key(0.9, "share of the last update that the next one keeps", ge=0, lt=1, introduced=0.9)
