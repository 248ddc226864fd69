"""Language modelling from right to left."""

from __future__ import annotations

from trainer.descriptions.objectives import ObjectiveDescription
from trainer.utils.schema import key


class Reverse(ObjectiveDescription):
    name = "reverse"
    help = "predict each token from those behind it"
    implementation = "trainer.objectives.reverse:reverse"
    families = ("decoder",)
    parts = ("document",)
    likelihood = True

    class Keys(ObjectiveDescription.Keys):
        reversed_share: float = key(1.0, "share of the documents that are read backwards", ge=0, le=1, introduced=1.0)
