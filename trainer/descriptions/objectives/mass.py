"""Masked sequence to sequence."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.objectives import ObjectiveDescription
from trainer.descriptions.objectives.keys import MaskShare, Rate, share_misfits

BLOCK = 64  # tokens that one fragment is cut out of


def hidden_tokens(length: int, rate: float) -> int:
    """Tokens that are hidden in a text of `length` tokens: one run in every block, of one token at least."""
    blocks = (min(BLOCK, length - begin) for begin in range(0, length, BLOCK))
    return sum(max(1, int(block * rate)) for block in blocks)


class MaskedSequence(ObjectiveDescription):
    name = "mass"
    help = "the decoder writes the fragments that the encoder misses (MASS)"
    implementation = "trainer.objectives.mass:mass"
    families = ("encoder_decoder",)
    parts = ("source", "target")
    infills = "fragments"

    class Keys(MaskShare, Rate):
        pass

    def misfits(self, group: Any) -> list[str]:
        return share_misfits(group)

    def target_length(self, keys: Any, sequence_length: int) -> int:
        return hidden_tokens(sequence_length - 2, keys.rate)  # beside <s> and </s>
