"""Masked language modelling under four masks of attention."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.objectives import ObjectiveDescription
from trainer.descriptions.objectives.keys import Longest, MaskShare, Rate, share_misfits


class UniLM(ObjectiveDescription):
    name = "unilm"
    help = "predict hidden tokens of a pair from both sides, from one side, or sequence to sequence (UniLM)"
    implementation = "trainer.objectives.pairs:unilm"
    families = ("encoder",)
    parts = ()
    two_stream = False
    infills = "mask_by_mask"

    class Keys(MaskShare, Longest, Rate):
        pass

    def misfits(self, group: Any) -> list[str]:
        return share_misfits(group)

    def reads_pairs(self, keys: Any) -> bool:
        return True
