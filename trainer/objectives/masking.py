"""Which tokens of a text are hidden, and by what: used by all objectives that predict hidden tokens."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainer.config import Config
from trainer.objectives import noise
from trainer.objectives.base import NO_TARGET, Texts
from trainer.objectives.noise import Draw, choose, harmonic, low, middle, round_randomly
from trainer.objectives.ranges import row_counts
from trainer.objectives.vocabulary import Vocabulary

Unit = Literal["token", "word", "ngram"]


class Masking:
    """Which tokens are hidden, and by what.

    unit token: each by itself. unit word: whole words in random order, skipping those that would overrun the count.
    unit ngram: runs of 1..longest words, shorter ones more likely (probability ~ 1/n, ALBERT). Hidden tokens become
    <mask> with probability mask_share, a random ordinary token with random_share, and stay otherwise; all of them are
    targets.
    """

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        *,
        rate: float,
        unit: Unit,
        longest: int,
        mask_share: float,
        random_share: float,
        at_least_one: bool,
    ) -> None:
        self.vocabulary, self.rate, self.unit, self.longest = vocabulary, rate, unit, longest
        self.mask_share, self.random_share, self.at_least_one = mask_share, random_share, at_least_one
        self.mask = vocabulary.id("<mask>", name)
        self.special = np.zeros(vocabulary.size, bool)
        self.special[list(vocabulary.specials.values())] = True

    @classmethod
    def of(cls, config: Config, vocabulary: Vocabulary, unit: Unit | None = None) -> Masking:
        """As the configuration asks for. unit: another one than it states."""
        keys = config.objective
        return cls(
            keys.name,
            vocabulary,
            rate=keys.rate,
            unit=unit or keys.unit,
            longest=keys.longest,
            mask_share=keys.mask_share,
            random_share=keys.random_share,
            at_least_one=keys.masks == "static",
        )

    def draws(self, width: int) -> int:
        """How many random numbers a text of at most `width` tokens takes: per token, per word, and for the count."""
        return (1 if self.unit == "token" else 2) * width + 1

    def __call__(
        self, tokens: np.ndarray, lengths: np.ndarray, draw: Draw, width: int, before: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """(noised tokens, targets) of texts end to end, which are as long as `lengths` says, at most `width`.

        draw(counts, first): so many numbers of each text's noise from that of number `first` on; draws(width) there
        are. before: tokens of a text that come before those that are given. Special tokens are never hidden.
        """
        bits, eligible = draw(lengths, before), ~self.special[tokens]
        able = row_counts(eligible, lengths)
        wanted = able * self.rate
        if self.at_least_one:  # BERT: round, but hide one
            count = np.minimum(np.maximum(np.round(wanted).astype(np.int64), 1), able)
        else:  # RoBERTa: round up or down at random
            count = round_randomly(draw(np.ones_like(lengths), self.draws(width) - 1), wanted)
        if self.unit == "token":
            hidden = choose(bits, lengths, eligible, count)
        else:
            hidden = self._whole_words(tokens, lengths, eligible, count, draw(lengths, width + before))
        places = np.flatnonzero(hidden)
        targets = np.full(len(tokens), NO_TARGET)
        targets[places] = tokens[places]
        return self.replace(tokens, places, bits[places]), targets

    def replace(self, tokens: np.ndarray, hidden: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """The tokens with those at the places `hidden` replaced. bits: uint64 of each of these places."""
        chance, ordinary = low(bits), self.vocabulary.ordinary
        random = chance < self.mask_share + self.random_share
        noised = tokens.copy()
        noised[hidden[random]] = ordinary[middle(bits[random], len(ordinary))]
        noised[hidden[chance < self.mask_share]] = self.mask
        return noised

    def _whole_words(
        self, tokens: np.ndarray, lengths: np.ndarray, eligible: np.ndarray, count: np.ndarray, bits: np.ndarray
    ) -> np.ndarray:
        hidden = np.zeros(len(tokens), bool)
        starts = self.vocabulary.word_starts(tokens) | ~eligible
        starts[1:] |= ~eligible[:-1]
        grams = harmonic(bits << np.uint64(32), self.longest) if self.unit == "ngram" else np.ones(len(bits), np.int64)
        ends = lengths.cumsum()
        for begin, end, wanted in zip((ends - lengths).tolist(), ends.tolist(), count.tolist(), strict=True):
            if begin < end:
                row = slice(begin, end)
                starts[begin] = True
                first = np.flatnonzero(starts[row])
                order = np.argsort(bits[begin : begin + len(first)])
                edges, words = np.append(first, end - begin), eligible[row][first]
                self._fill(hidden[row], edges[:-1], edges[1:], words, order, grams[row], wanted)
        return hidden

    def _fill(self, hidden, starts, ends, words, order, grams, left) -> None:  # type: ignore[no-untyped-def]
        """Hide runs of words in the given order until `left` tokens are hidden or nothing fits any more."""
        begin_of, end_of, ordinary = starts.tolist(), ends.tolist(), words.tolist()
        taken = [not word for word in ordinary]
        for first, size in zip(order.tolist(), grams[order].tolist(), strict=True):
            if left <= 0:
                return
            last = first + size - 1
            if last >= len(taken) or end_of[last] - begin_of[first] > left or any(taken[first : last + 1]):
                continue
            taken[first : last + 1] = [True] * size
            hidden[begin_of[first] : end_of[last]] = True
            left -= end_of[last] - begin_of[first]


def mask_draw(texts: Texts, copies: int | None) -> Draw:
    """(counts, first) -> noise keyed by the sample (dynamic masks), or by its place in the corpus and the copy's number
    (static ones): so many numbers for each from that of number `first` on, end to end."""
    if copies is None:
        return lambda counts, first: texts.draw(counts, first=first)
    index = texts.place * copies + texts.epoch % copies
    return lambda counts, first: noise.stretches(texts.seed, "static", index, counts, first=first)
