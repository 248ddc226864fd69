"""Configuration keys that several optimizers read."""

from __future__ import annotations

from trainer.descriptions.registry import Description
from trainer.utils.schema import key


class Epsilon(Description.Keys):
    epsilon: float = key(1e-8, "added to the root of the second moment", gt=0)


class Betas(Description.Keys):
    beta1: float = key(0.9, "decay of the first moment", ge=0, lt=1)
    beta2: float = key(0.95, "decay of the second moment", ge=0, lt=1)


class Nesterov(Description.Keys):
    nesterov: bool = key(True, "look ahead: the gradient and its momentum together", introduced=True)
