"""Language modelling from left to right."""

from __future__ import annotations

from trainer.descriptions.objectives import ObjectiveDescription


class Causal(ObjectiveDescription):
    name = "causal"
    help = "predict each token from those before it (GPT)"
    implementation = "trainer.objectives.causal:causal"
    families = ("decoder",)
    parts = ("document",)
    likelihood = True
    left_to_right = True
