"""Sentences and words of texts that lie end to end, as ranges of tokens and as numbers."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from trainer.objectives.vocabulary import LETTER, Vocabulary

BASE = np.uint64(0x9E3779B97F4A7C15)  # of the numbers that stand for words


def sentence_begins(tokens: np.ndarray, lengths: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """bool: the tokens that begin a sentence. One ends at . ! ? or a newline; the last run of tokens of a text is one,
    closed or not."""
    begins = np.ones(len(tokens), bool)
    begins[1:] = vocabulary.ends_sentence[tokens[:-1]]
    begins[(lengths.cumsum() - lengths)[lengths > 0]] = True
    return begins


class Words:
    """Numbers for the words of texts: equal for words of the same letters, large or small, however they are cut into
    tokens."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def __call__(self, tokens: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(places where words of letters and digits begin, uint64 numbers of them). begins: bool, tokens that no word
        goes on to, as the first of a text."""
        starts = np.flatnonzero(self.vocabulary.word_starts(tokens) | begins)
        if not len(starts):
            return starts, np.empty(0, np.uint64)
        numbers, sizes = self._spellings
        size = sizes[tokens]
        before = size.cumsum() - size  # letters before each token
        within = before - before[starts].repeat(np.diff(np.append(starts, len(tokens))))
        powers = np.full(int(within.max()) + 1, BASE)
        powers[0] = 1
        words = np.add.reduceat(numbers[tokens] * powers.cumprod(dtype=np.uint64)[within], starts)
        letters = self.vocabulary.first[tokens[starts]] == LETTER
        return starts[letters], words[letters]

    @cached_property
    def _spellings(self) -> tuple[np.ndarray, np.ndarray]:
        """(uint64 [V], int64 [V]): a polynomial of each token's letters and their number; parts of letters are one."""
        numbers, sizes = [], []
        for token, text in enumerate(self.vocabulary.texts):
            codes = list(map(ord, text.strip().lower())) or [0x110000 + token]  # behind the last letter of Unicode
            numbers.append(sum((code + 1) * pow(int(BASE), place, 2**64) for place, code in enumerate(codes)) % 2**64)
            sizes.append(len(codes))
        return np.array(numbers, np.uint64), np.array(sizes, np.int64)
