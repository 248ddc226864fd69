"""Denoising of whole texts, in one language or many."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.objectives import LANGUAGE, TEXT, ObjectiveDescription
from trainer.descriptions.objectives.keys import MeanSpan, RandomShare, Rate, Unit
from trainer.utils.errors import nearest
from trainer.utils.schema import Paths, key

# In the order in which they are applied.
NOISES = ("sentence_permutation", "token_masking", "token_deletion", "text_infilling", "document_rotation")


class Denoising(ObjectiveDescription):
    name = "bart"
    help = "the decoder writes the whole text, the encoder reads it noised (BART)"
    implementation = "trainer.objectives.bart:bart"
    families = ("encoder_decoder",)
    parts = ("source", "target")
    infills = "rewriting"

    class Keys(MeanSpan, RandomShare, Unit, Rate):
        noises: Paths = key((), f"noises of bart: {' '.join(NOISES)}")

    def misfits(self, group: Any) -> list[str]:
        allowed, wrong = ", ".join(NOISES), []
        if not group.noises:
            wrong.append(f"noises: {self.name} needs at least one of {allowed}")
        wrong += [
            f"noises: {noise!r} is none of {allowed}{nearest(noise, NOISES)}"
            for noise in group.noises
            if noise not in NOISES
        ]
        if group.unit == "ngram":
            wrong.append(f"unit: {self.name} hides spans of tokens or of words, not ngram; choose token or word")
        return wrong


class MultilingualDenoising(Denoising):
    name = "mbart"
    help = "BART's noises in many languages, with a token for the language of each text (mBART)"
    implementation = "trainer.objectives.bart:mbart"
    reads_languages = True
    encoder_input = (TEXT, "</s>", LANGUAGE)
