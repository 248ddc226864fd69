"""BART: write the text that was noised (Lewis et al. 2020, arXiv 1910.13461), by any composition of five noises."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from trainer.config import Config
from trainer.descriptions.objectives.bart import NOISES
from trainer.objectives.base import SHARED, Layout, Texts, text_layout
from trainer.objectives.examples import Examples, Side, TextObjective
from trainer.objectives.noise import Draw, below, choose, choose_few, low, middle, poisson, round_randomly
from trainer.objectives.ranges import numbers, put_among, row_counts, without_numbers
from trainer.objectives.sentences import sentence_begins
from trainer.objectives.vocabulary import Vocabulary

Noised = tuple[np.ndarray, np.ndarray]  # tokens int64 [sum of lengths] of B texts end to end, lengths int64 [B]


class Denoising(TextObjective):
    """The encoder reads <s> noised text </s>, the decoder writes the whole text and </s>.

    noises: some of `NOISES`, applied in the order of that. `rate` is the share of tokens that masking hides and
    deletion drops, and the share of words that infilling covers with spans of Poisson(mean_span) words.
    """

    name = "bart"

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

    def examples(self, texts: Texts) -> Examples:
        """The encoder reads the noised text, the decoder writes the text."""
        noised: Noised = texts.tokens, texts.lengths
        for number, name in enumerate(self.noises):
            noised = getattr(self, f"_{name}")(*noised, partial(self._draw, texts, 8 * number))
        source, lengths = noised
        some, targets = texts.lengths > 0, {"targets": texts.tokens}
        return {
            "source_": Side({"tokens": source}, lengths, self.width, some, first=self.bos, last=self.eos),
            "": Side(targets, texts.lengths, self.width, some, start=self.start, last=self.eos),
        }

    def _draw(self, texts: Texts, first: int, counts: np.ndarray, part: int) -> np.ndarray:
        """Every noise has eight parts of the sample's stream to itself."""
        return texts.draw(counts, first + part)

    # --- the five noises --------------------------------------------------------------------------------------------

    def _sentence_permutation(self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw) -> Noised:
        """Sentences in random order."""
        begins = sentence_begins(tokens, lengths, self.vocabulary)
        begin, counts = np.flatnonzero(begins), row_counts(begins, lengths)
        end = np.append(begin, len(tokens))[1:]
        key = draw(counts, 0) >> np.uint64(1)
        order = np.lexsort((key, np.arange(len(lengths)).repeat(counts)))
        return tokens[numbers(begin[order], end[order])], lengths

    def _token_masking(self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw) -> Noised:
        bits = draw(lengths, 0)
        hidden = np.flatnonzero(self._some(bits, lengths, draw))
        tokens = tokens.copy()
        tokens[hidden] = self._masks(bits[hidden])
        return tokens, lengths

    def _token_deletion(self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw) -> Noised:
        dropped = self._some(draw(lengths, 0), lengths, draw)
        return tokens[~dropped], lengths - row_counts(dropped, lengths)

    def _some(self, bits: np.ndarray, lengths: np.ndarray, draw: Draw) -> np.ndarray:
        """bool: the share `rate` of every text's tokens."""
        count = round_randomly(draw(np.ones_like(lengths), 1), lengths * self.rate)
        return choose(bits, lengths, np.ones(len(bits), bool), count)

    def _text_infilling(self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw) -> Noised:
        """Spans of Poisson(mean_span) words become one <mask> each; a span of no words inserts one.

        Lengths are drawn until they sum to ceil(rate * words), the last one cut to fit; spans begin at distinct random
        words and may overlap, so that fewer words vanish than were asked for (26.5% at 30% and 3).
        """
        words = lengths
        if self.whole_words:
            starts = self.vocabulary.word_starts(tokens)
            starts[(lengths.cumsum() - lengths)[lengths > 0]] = True
            words = row_counts(starts, lengths)
        spans, drawn = self._span_lengths(np.ceil(words * self.rate - 1e-9).astype(np.int64), draw)
        count = row_counts(spans > 0, drawn)
        first = words.cumsum() - words  # of each text, in words of all of them
        tries = np.full_like(count, 32 + int(2 * self.rate * self.length / self.mean_span))
        begin = choose_few(draw, 1, first, words, count, tries)
        end = np.minimum(begin + spans[spans > 0], (first + words).repeat(count))  # both in the order of texts
        if self.whole_words:  # from the places of words to those of tokens
            token = np.append(np.flatnonzero(starts), len(tokens))
            begin, end = token[begin], token[end]

        # A span leaves its mask unless one that began earlier covers it; the rest of what they cover is gone.
        covered_to = np.maximum.accumulate(end)
        apart = np.ones(len(begin) + 1, bool)
        apart[1:-1] = begin[1:] >= covered_to[:-1]
        group = np.flatnonzero(apart)  # of spans that overlap: its first, up to that of the next
        masked, resumed = begin[group[:-1]], covered_to[group[1:] - 1]
        noised = tokens.copy()
        noised[masked] = self._masks(draw(lengths, 3)[masked]) if self.random_share else self.mask
        gone = numbers(masked + 1, resumed)
        ends = lengths.cumsum()
        left = lengths - (gone.searchsorted(ends) - gone.searchsorted(ends - lengths))
        longest = lengths if self.shared else np.where(lengths > 0, self.length, 0)
        return self._insert(without_numbers(noised, gone), left, np.minimum(left + drawn - count, longest), draw)

    def _span_lengths(self, budget: np.ndarray, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """(lengths of the spans of every text in words, end to end; how many each text has): they sum to the budget."""
        few = 16 + (1.2 * budget / self.mean_span).astype(np.int64)  # nearly always enough
        for count in (few, np.full_like(few, 32 * (self.length + 1))):
            spans = poisson(draw(count, 0), self.mean_span)
            sums, ends = np.append(0, spans.cumsum()), count.cumsum()
            before = sums[ends - count]  # of each text
            if (sums[ends] - before >= budget).all():
                break
        left = (budget + before).repeat(count) - sums[:-1]  # of the budget, at each span
        used = left > 0
        return np.minimum(spans, left)[used], row_counts(used, count)

    def _insert(self, tokens: np.ndarray, lengths: np.ndarray, longer: np.ndarray, draw: Draw) -> Noised:
        """The texts made longer by masks at random places between their tokens."""
        tries = np.full_like(longer, 64)
        places = choose_few(draw, 4, longer.cumsum() - longer, longer, longer - lengths, tries)
        return put_among(tokens, places, self.mask), longer

    def _document_rotation(self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw) -> Noised:
        """The document begins at a token that is chosen uniformly, and goes on at its own beginning."""
        begins = lengths.cumsum() - lengths
        offset = below(draw(np.ones_like(lengths), 0), lengths)
        within = np.arange(len(tokens)) - begins.repeat(lengths)
        return tokens[(within + offset.repeat(lengths)) % lengths.repeat(lengths) + begins.repeat(lengths)], lengths

    def _masks(self, bits: np.ndarray) -> np.ndarray:
        """<mask>, or with probability random_share a random token."""
        if not self.random_share:
            return np.full(bits.shape, self.mask)
        ordinary = self.vocabulary.ordinary
        return np.where(low(bits) < self.random_share, ordinary[middle(bits, len(ordinary))], self.mask)


class MultilingualDenoising(Denoising):
    """BART's noises in many languages (Liu et al. 2020, mBART, arXiv 2001.08210, section 2.2).

    The encoder reads noised text </s> <language>, the decoder begins with <language> and writes the text and </s>.
    """

    name = "mbart"

    def examples(self, texts: Texts) -> Examples:
        """As Denoising."""
        sides = super().examples(texts)
        assert texts.language is not None
        source, some = sides["source_"], texts.lengths > 0
        lengths = source.lengths + some
        tokens = put_among(source.arrays["tokens"], lengths.cumsum()[some] - 1, self.eos)
        return {
            "source_": Side({"tokens": tokens}, lengths, self.width, some, last=texts.language),
            "": replace(sides[""], start=texts.language),
        }


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
