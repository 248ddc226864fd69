"""Language modelling in a random order of the tokens."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.objectives import ObjectiveDescription
from trainer.descriptions.objectives.keys import Longest, Rate
from trainer.utils.schema import key


class PermutedLM(ObjectiveDescription):
    name = "permuted_lm"
    help = "predict runs of words in a random order, in two streams (XLNet)"
    implementation = "trainer.objectives.permuted:permuted_lm"
    families = ("encoder",)
    parts = ()
    two_stream = True
    infills = "mask_by_mask"

    class Keys(Longest, Rate):
        memory: int = key(
            0,
            "the text before a sample that it reads as context and predicts nothing of (XLNet: 256 of 512)",
            "tokens",
            ge=0,
        )

    def config_misfits(self, config: Any) -> list[str]:
        memory, shortest, wrong = config.objective.memory, config.shortest_length, []
        if memory > shortest - 8:
            wrong.append(
                f"objective.memory: {memory} of {shortest} tokens leaves nothing to predict; "
                f"take at most {shortest // 2}"
            )
        if memory and config.data.packing != "packed":
            wrong.append("objective.memory: it is the text before a sample, which only data.packing=packed has")
        return [*wrong, *super().config_misfits(config)]
