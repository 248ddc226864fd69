"""Masked language modelling, and the detection of tokens that a generator put at the masks."""

from __future__ import annotations

from typing import Any, Literal

from trainer.descriptions.objectives import ObjectiveDescription
from trainer.descriptions.objectives.keys import Longest, MaskShare, Rate, Unit, share_misfits
from trainer.utils.schema import key


class _Masked(ObjectiveDescription):
    implementation = "trainer.objectives.masked:masked_lm"
    families = ("encoder",)
    parts = ("document",)
    infills = "mask_by_mask"

    class Keys(MaskShare, Longest, Unit, Rate):
        masks: Literal["dynamic", "static"] = key("dynamic", "new masks every epoch, or fixed ones that take turns")
        copies: int = key(10, "fixed masks for each text", "copies", ge=1)

    def misfits(self, group: Any) -> list[str]:
        return share_misfits(group)


class MaskedLM(_Masked):
    name = "masked_lm"
    help = "predict hidden tokens from both sides (BERT, RoBERTa, ALBERT)"

    class Keys(_Masked.Keys):
        question: Literal["nsp", "sop"] | None = key(
            None, "about two halves: does one follow the other (nsp), are they in order (sop)"
        )
        short_rate: float = key(0.1, "share of the pairs that are shorter than a sample", ge=0, le=1)

    def reads_pairs(self, keys: Any) -> bool:
        return keys.question is not None

    def labels_pairs(self, keys: Any) -> bool:
        return keys.question is not None

    def tells_languages(self, keys: Any) -> bool:
        return keys.question is None

    def config_misfits(self, config: Any) -> list[str]:
        model, question = config.model, config.objective.question
        wrong = []
        if question and model.family == "encoder" and not model.sentence_head:
            wrong.append(f"objective.question: {question} needs model.sentence_head=true, as in model=bert-base")
        return [*wrong, *super().config_misfits(config)]


class ReplacedToken(_Masked):
    name = "replaced_token"
    help = "a generator fills masks, the model finds the tokens that it replaced (ELECTRA)"
    generator = True
