"""Gap sentences: whole sentences are hidden, and written."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.objectives import TEXT, ObjectiveDescription
from trainer.descriptions.objectives.keys import Rate
from trainer.utils.schema import key


def most_hidden(length: int) -> int:
    """Tokens that the decoder writes at most of a text of `length` tokens: half, as 256 beside 512 in the paper."""
    return max(1, length // 2)


class GapSentences(ObjectiveDescription):
    name = "gap_sentences"
    help = "the decoder writes the sentences that the encoder misses, those most like the rest of their text (PEGASUS)"
    implementation = "trainer.objectives.gap_sentences:gap_sentences"
    families = ("encoder_decoder",)
    parts = ("source", "target")
    encoder_input = (TEXT, "</s>")

    class Keys(Rate):
        kept_share: float = key(
            0.0,
            "share of the sentences to be written that the encoder reads all the same (PEGASUS large: 0.2)",
            ge=0,
            le=1,
            introduced=0.0,
        )

    def target_length(self, keys: Any, sequence_length: int) -> int:
        return most_hidden(sequence_length - 1) + 1  # beside </s>
