"""Masked language modelling: hide some tokens, predict them from both sides (Devlin et al. 2019); also of a text beside
its translation (Lample and Conneau 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.config import Config
from trainer.objectives.base import Layout, Texts, text_layout
from trainer.objectives.examples import Examples, Side, TextObjective
from trainer.objectives.masking import Masking, mask_draw
from trainer.objectives.pairs import PairedLM
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


class TranslationLM(MaskedLM):
    """<s> A </s> <s> B </s> with hidden tokens on both sides, or <s> A </s> of a text without a partner (Lample and
    Conneau 2019, section 3.3 and figure 1).

    All tokens see both sides, so that a hidden token can be read off the other language. Positions begin anew with B.
    languages: int64 [B, S], rows of `model.languages`, where the model has them; else B has the vocabulary's
    second_type as token type, where the model has types.
    """

    told = typed = False  # whether the model has languages; whether it has two token types
    second_type = 1

    def examples(self, texts: Texts) -> Examples:
        """tokens, targets at their own places, positions, and languages or token_types."""
        assert texts.language is not None
        some = texts.lengths > 0
        languages = texts.language if texts.language.ndim == 2 else np.stack([texts.language] * 2, axis=1)
        tokens, lengths = self._framed(texts, some)
        begin, row = lengths.cumsum() - lengths, np.arange(len(lengths)).repeat(lengths)
        opens = np.flatnonzero(tokens == self.bos)  # of sides: of a text, or of the two of a pair
        place = np.arange(len(tokens))
        opened = opens[opens.searchsorted(place, side="right") - 1] if len(opens) else place
        side = (opened > begin[row]).astype(np.int64)
        noised, targets = self.masking(tokens, lengths, mask_draw(texts, self.copies), self.width)
        arrays = {"tokens": noised, "targets": targets, "positions": place - opened}
        if self.told:
            arrays["languages"] = languages[row, side]
        elif self.typed:
            arrays["token_types"] = side * self.second_type
        return {"": Side(arrays, lengths, self.width, some)}

    def _framed(self, texts: Texts, some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The texts between <s> and </s>, end to end, and their lengths."""
        ends = texts.lengths.cumsum()
        places = np.stack([(ends - texts.lengths)[some], ends[some]], axis=1).ravel()
        edges = np.tile([self.bos, self.eos], int(some.sum()))
        return np.insert(texts.tokens, places, edges), texts.lengths + 2 * some


def masked_lm(config: Config, vocabulary: Vocabulary) -> MaskedLM | PairedLM:
    """Also what ELECTRA's generator and discriminator read; of a model with languages, texts with theirs."""
    keys, length, masking = config.objective, config.data.sequence_length, Masking.of(config, vocabulary)
    if config.model.languages:
        return _translation(config, vocabulary, text_layout(config))
    if keys.question is None:
        return MaskedLM(keys.name, length, vocabulary, masking, **_arguments(config, text_layout(config)))
    pairs = {"question": keys.question, "short_rate": keys.short_rate}
    return PairedLM(keys.name, length, vocabulary, masking, copies=_copies(config), **pairs)


def tlm(config: Config, vocabulary: Vocabulary) -> TranslationLM:
    """A pair is never cut at the end of a sample: its sides would lose each other."""
    return _translation(config, vocabulary, "pieces" if config.data.packing == "padded" else "best_fit")


def _translation(config: Config, vocabulary: Vocabulary, layout: Layout) -> TranslationLM:
    length, masking = config.data.sequence_length, Masking.of(config, vocabulary)
    made = TranslationLM(config.objective.name, length, vocabulary, masking, **_arguments(config, layout))
    made.told, made.typed = bool(config.model.languages), config.model.token_types > 1
    made.second_type = vocabulary.second_type
    return made


def _arguments(config: Config, layout: Layout) -> dict[str, Any]:
    return {"layout": layout, "copies": _copies(config)}


def _copies(config: Config) -> int | None:
    return config.objective.copies if config.objective.masks == "static" else None
