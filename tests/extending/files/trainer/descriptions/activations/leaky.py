"""Leaky ReLU: a slope for what is negative."""

from __future__ import annotations

from trainer.descriptions.activations import ActivationDescription
from trainer.utils.schema import key


class Leaky(ActivationDescription):
    name = "leaky"
    help = "x where it is positive, else a share of it (Maas et al. 2013)"
    implementation = "trainer.models.leaky:leaky"

    class Keys(ActivationDescription.Keys):
        negative_slope: float = key(0.01, "share of negative values that passes", ge=0, lt=1, introduced=0.01)
