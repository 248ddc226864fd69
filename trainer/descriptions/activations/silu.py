"""SiLU, also called Swish."""

from __future__ import annotations

from trainer.descriptions.activations import ActivationDescription


class Silu(ActivationDescription):
    name = "silu"
    help = "x times the logistic function of x (Ramachandran et al. 2017)"
    implementation = "trainer.models.activations:silu"
    gated = "kernels:swiglu"
