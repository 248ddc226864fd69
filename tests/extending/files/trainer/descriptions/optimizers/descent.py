"""Stochastic gradient descent, plain and with momentum (Polyak 1964)."""

from __future__ import annotations

from trainer.descriptions.optimizers import OptimizerDescription
from trainer.utils.schema import key


class Descent(OptimizerDescription):
    name = "descent"
    help = "stochastic gradient descent"
    implementation = "trainer.training.optimizers.descent:descent"
    states = ()


class HeavyBall(OptimizerDescription):
    name = "heavy_ball"
    help = "stochastic gradient descent with momentum"
    implementation = "trainer.training.optimizers.descent:heavy_ball"
    states = ("momentum_buffer",)

    class Keys(OptimizerDescription.Keys):
        inertia: float = key(0.9, "share of the last update that the next one keeps", ge=0, lt=1)
