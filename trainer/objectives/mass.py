"""Masked sequence-to-sequence: the decoder writes what the encoder misses (MASS, Song et al. 2019)."""

from __future__ import annotations

import numpy as np

from trainer.config import Config
from trainer.descriptions.objectives.mass import BLOCK, hidden_tokens
from trainer.objectives.base import NO_TARGET, Batch, Layout, Window, add_special_tokens, as_one_document, text_layout
from trainer.objectives.masking import Masking
from trainer.objectives.noise import below
from trainer.objectives.vocabulary import Vocabulary


class MaskedSequence:
    """In every block of 64 tokens one run of `rate` of them is hidden: 80% <mask>, 10% random, 10% as they were.

    The decoder writes the hidden tokens. At each it reads the true token before it, at its position in the text. A
    short last block hides at least one token, so that no sample is without targets.
    """

    partner = False

    def __init__(
        self, sequence_length: int, vocabulary: Vocabulary, masking: Masking, *, layout: Layout, rate: float
    ) -> None:
        self.layout, self.masking, self.rate = layout, masking, rate
        self.stride = self.length = sequence_length - 2
        self.bos, self.eos, self.pad = (vocabulary.id(piece, "mass") for piece in ("<s>", "</s>", "<pad>"))
        self.target_width = hidden_tokens(self.length, rate)
        self.width = sequence_length

    def packed_length(self, length: int) -> int:
        """Beside the text <s> and </s>; or the fragments, in proportion."""
        return max(length + 2, -(-hidden_tokens(length, self.rate) * self.width // self.target_width))

    def apply(self, window: Window) -> Batch:
        """source_* [B, S]; tokens, targets, segments, positions [B, T], T constant."""
        rows, length = window.tokens.shape
        blocks = -(-length // BLOCK)
        bits = window.bits(length + blocks)
        begin = np.arange(blocks) * BLOCK
        size = np.clip(window.lengths[:, None] - begin, 0, BLOCK)
        count = np.where(size > 0, np.maximum(1, (size * self.rate).astype(np.int64)), 0)
        first = begin + below(bits[:, length:], size - count + 1)
        columns = np.arange(length)
        block = columns // BLOCK
        hidden = (columns >= first[:, block]) & (columns < (first + count)[:, block])

        places = np.flatnonzero(hidden)
        draws = bits[:, :length].ravel()[places]
        noised = self.masking.replace(window.tokens.ravel(), places, draws).reshape(rows, length)
        source, lengths = add_special_tokens(noised, window.lengths, self.bos, self.eos, self.pad)
        whole, _ = add_special_tokens(window.tokens, window.lengths, self.bos, self.eos, self.pad)
        row, column = np.nonzero(hidden)
        place = (np.cumsum(hidden, axis=1) - 1)[row, column]
        decoder = as_one_document(np.full((rows, self.target_width), self.pad, np.int64), count.sum(axis=1))
        targets = np.full((rows, self.target_width), NO_TARGET, np.int64)
        targets[row, place] = window.tokens[row, column]
        decoder["tokens"][row, place] = whole[row, column]  # one behind: <s> stands before the text
        decoder["positions"][row, place] = column
        return {**as_one_document(source, lengths, "source_"), **decoder, "targets": targets}


def mass(config: Config, vocabulary: Vocabulary) -> MaskedSequence:
    masking = Masking.of(config, vocabulary)
    length, rate = config.data.sequence_length, config.objective.rate
    return MaskedSequence(length, vocabulary, masking, layout=text_layout(config), rate=rate)
