"""Permuted language modelling: predict in a random order (XLNet, Yang et al. 2019, arXiv 1906.08237, section 2)."""

from __future__ import annotations

import numpy as np

from trainer.config import Config
from trainer.objectives.base import NO_TARGET, Batch, Layout, Window, add_special_tokens, as_one_document, text_layout
from trainer.objectives.noise import LARGEST, harmonic, uniform
from trainer.objectives.vocabulary import Vocabulary


class PermutedLM:
    """Runs of whole words are predicted, each from the rest of the text and the targets that come earlier in a random
    order.

    Runs have 1..longest words, shorter ones more likely (~ 1/n), each inside a stretch of its own, 1/rate times as
    long in tokens; both ends are ends of words. `order` int32 [B, S] is 0 for what is not predicted and 1, 2, ... for
    the targets: the content stream of a token sees order <= its own, the query stream order < its own, so that a
    target never sees itself. Targets stand at their own place.

    The first `memory` tokens are those before the stretch's own text, which the stretch before it predicted, as far as
    its document has them: they have order 0 and are no targets. They stand for XLNet's memory of the last segment
    (reuse_len), and a sample remains a function of its number alone.
    """

    partner = False

    def __init__(
        self,
        sequence_length: int,
        vocabulary: Vocabulary,
        *,
        layout: Layout,
        rate: float,
        longest: int,
        memory: int = 0,
    ) -> None:
        self.layout, self.vocabulary, self.rate, self.longest = layout, vocabulary, rate, longest
        self.memory, self.length = memory, sequence_length - 2
        self.stride = self.length - memory
        self.bos, self.eos, self.pad = (vocabulary.id(piece, "permuted_lm") for piece in ("<s>", "</s>", "<pad>"))

    def packed_length(self, length: int) -> int:
        """Beside the text: <s> and </s>."""
        return length + 2

    def apply(self, window: Window) -> Batch:
        """tokens, targets, segments, positions, order: [B, S]."""
        rows, length = window.tokens.shape
        bits = window.bits(3 * length)
        begins = self.vocabulary.word_starts(window.tokens)
        sizes = harmonic(bits[:, :length], self.longest)
        places = uniform(bits[:, length : 2 * length])
        hidden = np.zeros((rows, length), bool)
        memory = np.full(rows, self.memory) if window.context is None else window.context
        for row, (first, count) in enumerate(zip(memory.tolist(), (window.lengths - memory).tolist(), strict=True)):
            if count > 0:
                own = slice(first, None)
                starts = np.append(np.flatnonzero(begins[row, own][:count]), count)
                self._spans(hidden[row, own], starts, sizes[row].tolist(), places[row].tolist())
        keys = np.where(hidden, bits[:, 2 * length :], LARGEST)
        rank = np.empty((rows, length), np.int64)
        np.put_along_axis(rank, np.argsort(keys, axis=1), np.arange(1, length + 1)[None], axis=1)
        tokens, lengths = add_special_tokens(window.tokens, window.lengths, self.bos, self.eos, self.pad)
        order = np.zeros(tokens.shape, np.int32)
        order[:, 1:-1] = np.where(hidden, rank, 0)
        targets = np.full(tokens.shape, NO_TARGET, np.int64)
        targets[:, 1:-1] = np.where(hidden, window.tokens, NO_TARGET)
        return {**as_one_document(tokens, lengths), "targets": targets, "order": order}

    def _spans(self, hidden: np.ndarray, starts: np.ndarray, sizes: list[int], places: list[float]) -> None:
        """Walk over the row, a stretch at a time. starts: where words begin, and the row's end."""
        count = int(starts[-1])
        goal = round(count * self.rate)
        at = done = 0
        for size, place in zip(sizes, places, strict=True):
            if at >= count or done >= goal:
                return
            stretch = round(size / self.rate)
            first = int(np.searchsorted(starts, at + int(place * max(1, stretch - size + 1))))
            last = min(first + size, len(starts) - 1)
            if first < last and (found := int(starts[last] - starts[first])) <= goal - done:
                hidden[starts[first] : starts[last]] = True
                done += found
                at = max(at + stretch, int(starts[last]))
            else:
                at += stretch


def permuted_lm(config: Config, vocabulary: Vocabulary) -> PermutedLM:
    keys, length = config.objective, config.data.sequence_length
    own = {"rate": keys.rate, "longest": keys.longest, "memory": keys.memory}
    return PermutedLM(length, vocabulary, layout=text_layout(config), **own)
