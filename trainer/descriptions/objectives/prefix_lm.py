"""Language modelling behind a prefix."""

from __future__ import annotations

from trainer.descriptions.objectives import ObjectiveDescription


class PrefixLM(ObjectiveDescription):
    name = "prefix_lm"
    help = "read a prefix of each document in both directions, predict the rest (T5, section 3.2)"
    implementation = "trainer.objectives.causal:prefix_lm"
    families = ("decoder",)
    parts = ("prefix", "rest")
