"""GELU, exact and as its tanh approximation."""

from __future__ import annotations

from trainer.descriptions.activations import ActivationDescription


class Gelu(ActivationDescription):
    name = "gelu"
    help = "x times the normal distribution function of x (Hendrycks and Gimpel 2016)"
    implementation = "trainer.models.activations:gelu"
    gated = "kernels:geglu"


class GeluTanh(ActivationDescription):
    name = "gelu_tanh"
    help = "gelu in its tanh approximation (GPT-2)"
    implementation = "trainer.models.activations:gelu_tanh"
    gated = "trainer.models.activations:geglu_tanh"
