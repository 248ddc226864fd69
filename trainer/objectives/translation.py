"""Translation language modelling, and masked language modelling of texts whose language the model is told (XLM)."""

from __future__ import annotations

import numpy as np

from trainer.config import Config
from trainer.objectives.base import Layout, Texts, text_layout
from trainer.objectives.examples import Examples, Side, TextObjective
from trainer.objectives.masking import Masking, mask_draw
from trainer.objectives.vocabulary import Vocabulary


class TranslationLM(TextObjective):
    """<s> A </s> <s> B </s> with hidden tokens on both sides, or <s> A </s> of a text without a partner (Lample and
    Conneau 2019, section 3.3 and figure 1).

    All tokens see both sides, so that a hidden token can be read off the other language. Positions begin anew with B.
    languages: int64 [B, S], rows of `model.languages`, where the model has them; else B has the vocabulary's
    second_type as token type, where the model has types.
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
        told: bool,
        typed: bool,
    ) -> None:
        """told: whether the model has languages. typed: whether it has two token types."""
        self.layout, self.masking, self.copies, self.told, self.typed = layout, masking, copies, told, typed
        self.width, self.second_type = sequence_length, vocabulary.second_type
        self.stride = self.length = sequence_length - 2
        self.bos, self.eos, self.pad = (vocabulary.id(piece, name) for piece in ("<s>", "</s>", "<pad>"))

    def packed_length(self, length: int) -> int:
        """Beside the text, or the pair with what stands between its sides: <s> and </s>."""
        return length + 2

    def examples(self, texts: Texts) -> Examples:
        """tokens, targets at their own places, positions, and languages or token_types."""
        assert texts.language is not None
        some = texts.lengths > 0
        languages = texts.language if texts.language.ndim == 2 else np.stack([texts.language] * 2, axis=1)
        tokens, lengths = self._framed(texts, some)
        ends = lengths.cumsum()
        begin, row = ends - lengths, np.arange(len(lengths)).repeat(lengths)
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


def tlm(config: Config, vocabulary: Vocabulary) -> TranslationLM:
    """A pair is never cut at the end of a sample: its sides would lose each other."""
    return told(config, vocabulary, "pieces" if config.data.packing == "padded" else "best_fit")


def told(config: Config, vocabulary: Vocabulary, layout: Layout | None = None) -> TranslationLM:
    """Also masked language modelling of single texts, by models that have languages."""
    keys = config.objective
    return TranslationLM(
        keys.name,
        config.data.sequence_length,
        vocabulary,
        Masking.of(config, vocabulary),
        layout=layout or text_layout(config),
        copies=keys.copies if keys.masks == "static" else None,
        told=bool(config.model.languages),
        typed=config.model.token_types > 1,
    )
