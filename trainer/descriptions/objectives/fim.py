"""Filling in the middle."""

from __future__ import annotations

from trainer.descriptions.objectives import ObjectiveDescription
from trainer.descriptions.objectives.keys import Rate
from trainer.utils.schema import key


class FillInTheMiddle(ObjectiveDescription):
    name = "fim"
    help = "predict documents whose middle was moved behind their end (Bavarian et al. 2022)"
    implementation = "trainer.objectives.causal:fill_in_the_middle"
    families = ("decoder",)
    parts = ("document",)
    infills = "middle"
    left_to_right = True

    class Keys(Rate):
        spm_rate: float = key(0.5, "share of the rearranged documents whose suffix stands first", ge=0, le=1)
