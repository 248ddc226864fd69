"""BART: write the text that was noised (Lewis et al. 2020, arXiv 1910.13461), by any composition of five noises."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from trainer.config import Config
from trainer.descriptions.objectives.bart import NOISES
from trainer.objectives.base import (
    PADDING,
    SHARED,
    Batch,
    Layout,
    Window,
    add_special_tokens,
    as_one_document,
    chosen,
    pack_left,
    shift_right,
    text_layout,
)
from trainer.objectives.noise import LARGEST, Draw, below, choose, choose_few, low, middle, poisson, round_randomly
from trainer.objectives.ranges import numbers, without
from trainer.objectives.vocabulary import Vocabulary

Rows = tuple[np.ndarray, np.ndarray]  # tokens int64 [B, L] padded behind, lengths int64 [B]


class Denoising:
    """The encoder reads <s> noised text </s>, the decoder writes the whole text and </s>.

    noises: some of `NOISES`, applied in the order of that. `rate` is the share of tokens that masking hides and
    deletion drops, and the share of words that infilling covers with spans of Poisson(mean_span) words.
    """

    name = "bart"
    partner = False

    def __init__(
        self,
        sequence_length: int,
        vocabulary: Vocabulary,
        *,
        layout: Layout,
        noises: tuple[str, ...],
        rate: float,
        mean_span: float,
        random_share: float,
        whole_words: bool,
    ) -> None:
        self.layout, self.vocabulary = layout, vocabulary
        self.shared = layout in SHARED  # other examples need the rest of the sample
        self.stride = self.length = sequence_length - 2  # beside <s> and </s>
        self.width = sequence_length
        self.noises = [name for name in NOISES if name in noises]
        self.rate, self.mean_span, self.random_share, self.whole_words = rate, mean_span, random_share, whole_words
        self.bos, self.eos, self.pad, self.mask = (
            vocabulary.id(p, self.name) for p in ("<s>", "</s>", "<pad>", "<mask>")
        )
        self.start = vocabulary.start(self.name)

    def packed_length(self, length: int) -> int:
        """Beside the text: <s> and </s>."""
        return length + 2

    def apply(self, window: Window) -> Batch:
        """source_tokens, source_segments, source_positions and tokens, targets, segments, positions: [B, S] each."""
        rows: Rows = window.tokens, window.lengths
        for number, name in enumerate(self.noises):
            rows = getattr(self, f"_{name}")(*rows, partial(self._draw, window, 8 * number))
        source, lengths = add_special_tokens(*rows, self.bos, self.eos, self.pad, window.lengths > 0)
        some = np.flatnonzero(window.lengths)
        targets = np.full(source.shape, self.pad)
        targets[:, :-2] = window.tokens
        targets[some, window.lengths[some]] = self.eos
        written = np.where(window.lengths > 0, window.lengths + 1, 0)
        return {**as_one_document(source, lengths, "source_"), **shift_right(targets, written, self.start, self.pad)}

    def _draw(self, window: Window, first: int, count: int, part: int) -> np.ndarray:
        """Every noise has eight parts of the sample's stream to itself."""
        return window.bits(count, first + part)

    # --- the five noises --------------------------------------------------------------------------------------------

    def _sentence_permutation(self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw) -> Rows:
        """Sentences, which end at . ! ? or a newline, in random order; the last run of tokens is one, closed or not."""
        inside = _inside(tokens, lengths)
        begins = np.ones_like(inside)
        begins[:, 1:] = self.vocabulary.ends_sentence[tokens[:, :-1]]
        sentence = np.cumsum(begins, axis=1) - 1
        draws = draw(tokens.shape[1], 0) >> np.uint64(1)  # half the range, so that padding sorts behind
        key = np.where(inside, np.take_along_axis(draws, sentence, axis=1), LARGEST)
        order = np.argsort(key, axis=1, kind="stable")
        return np.take_along_axis(tokens, order, axis=1), lengths

    def _token_masking(self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw) -> Rows:
        bits = draw(tokens.shape[1], 0)
        hidden = choose(bits, _inside(tokens, lengths), round_randomly(draw(1, 1)[:, 0], lengths * self.rate))
        tokens = tokens.copy()
        tokens[hidden] = self._masks(bits[hidden])
        return tokens, lengths

    def _token_deletion(self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw) -> Rows:
        inside = _inside(tokens, lengths)
        count = round_randomly(draw(1, 1)[:, 0], lengths * self.rate)
        dropped = choose(draw(tokens.shape[1], 0), inside, count)
        return pack_left(tokens, inside & ~dropped, tokens.shape[1], self.pad)

    def _text_infilling(self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw) -> Rows:
        """Spans of Poisson(mean_span) words become one <mask> each; a span of no words inserts one.

        Lengths are drawn until they sum to ceil(rate * words), the last one cut to fit; spans begin at distinct random
        words and may overlap, so that fewer words vanish than were asked for (26.5% at 30% and 3).
        """
        rows, width = tokens.shape
        first = width * np.arange(rows)  # of each row: places are those of the flat array
        words = lengths
        if self.whole_words:
            starts = np.flatnonzero(self.vocabulary.word_starts(tokens) & _inside(tokens, lengths))
            words = starts.searchsorted(first + width) - starts.searchsorted(first)
        spans, inserted = self._span_lengths(np.ceil(words * self.rate - 1e-9).astype(np.int64), width, draw)
        some = spans > 0
        count = some.sum(axis=1)
        tries = 32 + int(2 * self.rate * width / self.mean_span)
        begin = choose_few(draw, 1, width, words, count, tries)
        end = np.minimum(begin + chosen(spans, some), np.repeat(first + words, count))  # both in the order of rows
        if self.whole_words:  # from the places of words to those of tokens
            token = np.empty(tokens.size + 1, np.int64)
            token[numbers(first, first + words)] = starts
            token[first + words] = first + lengths
            begin, end = token[begin], token[end]

        # A span leaves its mask unless one that began earlier covers it; the rest of what they cover is gone.
        covered_to = np.maximum.accumulate(end)
        apart = np.ones(len(begin) + 1, bool)
        apart[1:-1] = begin[1:] >= covered_to[:-1]
        group = np.flatnonzero(apart)  # of spans that overlap: its first, up to that of the next
        masked, resumed = begin[group[:-1]], covered_to[group[1:] - 1]
        flat = tokens.flatten()
        flat[masked] = self._masks(draw(width, 3).ravel()[masked]) if self.random_share else self.mask
        kept = numbers(*without(first, first + lengths, masked + 1, resumed))
        longest = lengths if self.shared else np.where(lengths > 0, width, 0)
        lengths = kept.searchsorted(first + width) - kept.searchsorted(first)
        return self._insert(flat[kept], lengths, np.minimum(lengths + inserted, longest), width, draw)

    def _span_lengths(self, budget: np.ndarray, width: int, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """(lengths of spans in words, 0 behind the last, [B, N]; number of empty spans [B]): they sum to the budget."""
        most = int(budget.max(initial=0))
        for count in (16 + int(1.2 * most / self.mean_span), 32 * (width + 1)):  # the first is nearly always enough
            spans = poisson(draw(count, 0), self.mean_span)
            ends = np.cumsum(spans, axis=1)
            if (ends[:, -1] >= budget).all():
                break
        before = ends - spans
        used = before < budget[:, None]
        spans = np.where(used, np.minimum(spans, budget[:, None] - before), 0)
        return spans, (used & (spans == 0)).sum(axis=1)

    def _insert(self, flat: np.ndarray, lengths: np.ndarray, longer: np.ndarray, width: int, draw: Draw) -> Rows:
        """Rows of `width` from their tokens end to end, made longer by masks at random places between them."""
        first = width * np.arange(len(lengths))
        new = choose_few(draw, 4, width, longer, longer - lengths, 64)
        spread = np.full((len(lengths), width), self.pad)
        spread.ravel()[new] = self.mask
        spread.ravel()[numbers(*without(first, first + longer, new, new + 1))] = flat
        return spread, longer

    def _document_rotation(self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw) -> Rows:
        """The document begins at a token that is chosen uniformly, and goes on at its own beginning."""
        columns = np.arange(tokens.shape[1])
        offset = below(draw(1, 0)[:, 0], lengths)[:, None]
        turned = (columns + offset) % np.maximum(lengths, 1)[:, None]
        return np.take_along_axis(tokens, np.where(_inside(tokens, lengths), turned, columns), axis=1), lengths

    def _masks(self, bits: np.ndarray) -> np.ndarray:
        """<mask>, or with probability random_share a random token."""
        if not self.random_share:
            return np.full(bits.shape, self.mask)
        ordinary = self.vocabulary.ordinary
        return np.where(low(bits) < self.random_share, ordinary[middle(bits, len(ordinary))], self.mask)


def _inside(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return np.arange(tokens.shape[1]) < lengths[:, None]


class MultilingualDenoising(Denoising):
    """BART's noises in many languages (Liu et al. 2020, mBART, arXiv 2001.08210, section 2.2).

    The encoder reads noised text </s> <language>, the decoder begins with <language> and writes the text and </s>.
    """

    name = "mbart"

    def apply(self, window: Window) -> Batch:
        """As Denoising."""
        batch = super().apply(window)
        assert window.language is not None
        some = np.flatnonzero(window.lengths > 0)
        language = window.language[some]
        lengths = (batch["source_segments"] != PADDING).sum(axis=1)[some]
        source = batch["source_tokens"]
        source[some, :-1] = source[some, 1:]  # <s> goes, <language> comes behind </s>
        source[some, lengths - 1] = language
        batch["tokens"][some, 0] = language
        return batch


def bart(config: Config, vocabulary: Vocabulary) -> Denoising:
    return Denoising(config.data.sequence_length, vocabulary, **_arguments(config))


def mbart(config: Config, vocabulary: Vocabulary) -> MultilingualDenoising:
    return MultilingualDenoising(config.data.sequence_length, vocabulary, **_arguments(config))


def _arguments(config: Config) -> dict[str, Any]:
    keys = config.objective
    return {
        "layout": text_layout(config),
        "noises": keys.noises,
        "rate": keys.rate,
        "mean_span": keys.mean_span,
        "random_share": keys.random_share,
        "whole_words": keys.unit == "word",
    }
