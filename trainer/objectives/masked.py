"""Masked language modelling: hide some tokens, predict them from both sides (Devlin et al. 2019)."""

from __future__ import annotations

from trainer.config import Config
from trainer.objectives.base import Layout, Texts, text_layout
from trainer.objectives.examples import Examples, Side, TextObjective
from trainer.objectives.masking import Masking, mask_draw
from trainer.objectives.pairs import PairedLM
from trainer.objectives.translation import TranslationLM, told
from trainer.objectives.vocabulary import Vocabulary


class MaskedLM(TextObjective):
    """<s> text </s> with hidden tokens. masks "dynamic": new ones every epoch (RoBERTa); "static": each place of the
    corpus keeps `copies` sets of masks that take turns over the epochs (BERT's duplicated data).
    """

    def __init__(
        self,
        name: str,
        sequence_length: int,
        vocabulary: Vocabulary,
        masking: Masking,
        *,
        layout: Layout,
        copies: int | None,
    ) -> None:
        self.layout, self.masking, self.copies = layout, masking, copies
        self.width = sequence_length
        self.stride = self.length = sequence_length - 2
        self.bos, self.eos, self.pad = (vocabulary.id(piece, name) for piece in ("<s>", "</s>", "<pad>"))

    def packed_length(self, length: int) -> int:
        """Beside the text: <s> and </s>."""
        return length + 2

    def examples(self, texts: Texts) -> Examples:
        """tokens and targets; a target is predicted at its own place."""
        lengths, draw = texts.lengths, mask_draw(texts, self.copies)
        tokens, targets = self.masking(texts.tokens, lengths, draw, self.width, before=1)
        arrays = {"tokens": tokens, "targets": targets}
        return {"": Side(arrays, lengths, self.width, lengths > 0, first=self.bos, last=self.eos)}


def masked_lm(config: Config, vocabulary: Vocabulary) -> MaskedLM | PairedLM | TranslationLM:
    """Also what ELECTRA's generator and discriminator read, and what models with languages do."""
    if config.model.languages:
        return told(config, vocabulary)
    keys, length, masking = config.objective, config.data.sequence_length, Masking.of(config, vocabulary)
    copies = keys.copies if keys.masks == "static" else None
    if keys.question is None:
        return MaskedLM(keys.name, length, vocabulary, masking, layout=text_layout(config), copies=copies)
    pairs = {"question": keys.question, "short_rate": keys.short_rate}
    return PairedLM(keys.name, length, vocabulary, masking, copies=copies, **pairs)
