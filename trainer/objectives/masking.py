"""Which tokens of a text are hidden, and by what: used by all objectives that predict hidden tokens."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainer.config import Config
from trainer.objectives import noise
from trainer.objectives.base import NO_TARGET, Window
from trainer.objectives.noise import choose, harmonic, low, middle, round_randomly
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

    def draws(self, length: int) -> int:
        """How many random numbers a row of this length takes: per token, per word, and one for the count."""
        return (1 if self.unit == "token" else 2) * length + 1

    def __call__(self, tokens: np.ndarray, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(noised tokens, targets), [B, S] each; bits: uint64 [B, draws(S)]. Special tokens are never hidden."""
        length = tokens.shape[1]
        eligible = ~self.special[tokens]
        wanted = eligible.sum(axis=1) * self.rate
        if self.at_least_one:  # BERT: round, but hide one
            count = np.minimum(np.maximum(np.round(wanted).astype(np.int64), 1), eligible.sum(axis=1))
        else:  # RoBERTa: round up or down at random
            count = round_randomly(bits[:, -1], wanted)
        if self.unit == "token":
            hidden = choose(bits[:, :length], eligible, count)
        else:
            hidden = self._whole_words(tokens, eligible, count, bits[:, length : 2 * length])
        return self.replace(tokens, hidden, bits), np.where(hidden, tokens, NO_TARGET)

    def replace(self, tokens: np.ndarray, hidden: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """The tokens with the hidden ones replaced. bits: uint64 [B, S or more], whose lower bits decide."""
        hidden_bits = bits[:, : tokens.shape[1]][hidden]
        chance, ordinary = low(hidden_bits), self.vocabulary.ordinary
        new = np.where(
            chance < self.mask_share + self.random_share, ordinary[middle(hidden_bits, len(ordinary))], tokens[hidden]
        )
        new[chance < self.mask_share] = self.mask
        noised = tokens.copy()
        noised[hidden] = new
        return noised

    def _whole_words(self, tokens: np.ndarray, eligible: np.ndarray, count: np.ndarray, bits: np.ndarray) -> np.ndarray:
        hidden = np.zeros(tokens.shape, bool)
        begins = self.vocabulary.word_starts(tokens) | ~eligible
        begins[:, 1:] |= ~eligible[:, :-1]
        grams = harmonic(bits << np.uint64(32), self.longest) if self.unit == "ngram" else np.ones(bits.shape, np.int64)
        for row in range(len(tokens)):
            starts = np.flatnonzero(begins[row])
            ends = np.append(starts[1:], tokens.shape[1])
            words = eligible[row, starts]
            self._fill(
                hidden[row], starts, ends, words, np.argsort(bits[row, : len(starts)]), grams[row], int(count[row])
            )
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


def mask_bits(window: Window, count: int, copies: int | None) -> np.ndarray:
    """Noise keyed by the sample (dynamic masks), or by its place in the corpus and the copy's number (static ones)."""
    if copies is None:
        return window.bits(count)
    return noise.rows(window.seed, "static", window.place * copies + window.epoch % copies, count)
