"""ReLU."""

from __future__ import annotations

from trainer.descriptions.activations import ActivationDescription


class Relu(ActivationDescription):
    name = "relu"
    help = "x where it is positive, else 0"
    implementation = "trainer.models.activations:relu"
    saved = 0
