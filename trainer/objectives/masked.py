"""Masked language modelling: hide some tokens, predict them from both sides (Devlin et al. 2019), also of pairs."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainer.config import Config
from trainer.objectives import noise
from trainer.objectives.base import (
    NO_TARGET,
    PADDING,
    Batch,
    Layout,
    Window,
    add_special_tokens,
    as_one_document,
    text_layout,
)
from trainer.objectives.noise import choose, harmonic, low, middle, round_randomly, uniform
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


class MaskedLM:
    """<s> text </s> with hidden tokens. masks "dynamic": new ones every epoch (RoBERTa); "static": each place of the
    corpus keeps `copies` sets of masks that take turns over the epochs (BERT's duplicated data).
    """

    partner = False

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
        self.stride = self.length = sequence_length - 2
        self.bos, self.eos, self.pad = (vocabulary.id(piece, name) for piece in ("<s>", "</s>", "<pad>"))

    def packed_length(self, length: int) -> int:
        """Beside the text: <s> and </s>."""
        return length + 2

    def apply(self, window: Window) -> Batch:
        """tokens, targets, segments, positions: [B, S]; a target is predicted at its own place."""
        tokens, lengths = add_special_tokens(window.tokens, window.lengths, self.bos, self.eos, self.pad)
        noised, targets = self.masking(tokens, mask_bits(window, self.masking.draws(tokens.shape[1]), self.copies))
        return {**as_one_document(noised, lengths), "targets": targets}


def mask_bits(window: Window, count: int, copies: int | None) -> np.ndarray:
    """Noise keyed by the sample (dynamic masks), or by its place in the corpus and the copy's number (static ones)."""
    if copies is None:
        return window.bits(count)
    return noise.rows(window.seed, "static", window.place * copies + window.epoch % copies, count)


class PairedLM:
    """<s> A </s> B </s> with hidden tokens and a question about the pair.

    question nsp: B follows A in its document (0) or comes from another one (1), half and half (BERT). question sop: A
    and B are in order (0) or swapped (1) (ALBERT). A and B are cut where a sentence ends, if one does. A piece of a
    single token has no second half: it takes a random one under nsp and has no label (-100) under sop.
    """

    layout: Layout = "pieces"

    def __init__(
        self,
        name: str,
        sequence_length: int,
        vocabulary: Vocabulary,
        masking: Masking,
        *,
        question: Literal["nsp", "sop"],
        short_rate: float,
        copies: int | None,
    ) -> None:
        self.question, self.masking, self.copies, self.short_rate = question, masking, copies, short_rate
        self.partner = question == "nsp"
        self.stride = self.length = sequence_length - 3
        self.width, self.vocabulary = sequence_length, vocabulary
        self.bos, self.eos, self.pad = (vocabulary.id(piece, name) for piece in ("<s>", "</s>", "<pad>"))

    def apply(self, window: Window) -> Batch:
        """As MaskedLM, with token_types int64 [B, S] (0 for A, 1 for B) and sentence_label int64 [B]."""
        count = len(window.tokens)
        tokens = np.full((count, self.width), self.pad, np.int64)
        types = np.zeros((count, self.width), np.int64)
        lengths = np.zeros(count, np.int64)
        labels = np.full(count, NO_TARGET, np.int64)
        bits = mask_bits(window, self.masking.draws(self.width) + 8, self.copies)
        for row, length in enumerate(window.lengths.tolist()):
            if length:
                first, second, labels[row] = self._pair(window, row, length, bits[row, -8:])
                closed = (
                    [self.bos, *first, self.eos, *second, self.eos] if len(second) else [self.bos, *first, self.eos]
                )
                lengths[row] = len(closed)
                tokens[row, : len(closed)] = closed
                types[row, len(first) + 2 : len(closed)] = 1
        noised, targets = self.masking(tokens, bits[:, :-8])
        return {**as_one_document(noised, lengths), "targets": targets, "token_types": types, "sentence_label": labels}

    def _pair(self, window: Window, row: int, length: int, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        draws = uniform(bits)
        if draws[0] < self.short_rate:  # so that the model is trained on short inputs too
            length = min(length, 2 + int(draws[1] * (self.length - 1)))
        text = window.tokens[row, :length]
        cut = split_point(text, self.vocabulary, draws[2])
        first, second = text[:cut], text[cut:]
        if self.question == "sop":
            if not len(second):
                return first, second, NO_TARGET
            return (second, first, 1) if draws[3] < 0.5 else (first, second, 0)
        assert window.partner is not None and window.other_document is not None
        if not window.other_document[row] or (len(second) and draws[3] < 0.5):
            return first, second, 0 if len(second) else NO_TARGET
        available = min(self.length, max(length, 2)) - len(first)
        other = window.partner.tokens[row, : int(window.partner.lengths[row])]
        begin = int(draws[4] * (max(0, len(other) - available) + 1))
        return first, other[begin : begin + max(available, 1)], 1


def masked_lm(config: Config, vocabulary: Vocabulary) -> MaskedLM | PairedLM:
    """Also what ELECTRA's generator and discriminator read."""
    keys, length, masking = config.objective, config.data.sequence_length, Masking.of(config, vocabulary)
    copies = keys.copies if keys.masks == "static" else None
    if keys.question is None:
        return MaskedLM(keys.name, length, vocabulary, masking, layout=text_layout(config), copies=copies)
    pairs = {"question": keys.question, "short_rate": keys.short_rate}
    return PairedLM(keys.name, length, vocabulary, masking, copies=copies, **pairs)


def split_point(text: np.ndarray, vocabulary: Vocabulary, chance: float) -> int:
    """Where A ends: behind a random sentence end inside the text, or behind any token where there is none."""
    ends = np.flatnonzero(vocabulary.ends_sentence[text[:-1]]) + 1
    if len(ends):
        return int(ends[int(chance * len(ends))])
    return 1 + int(chance * (len(text) - 1)) if len(text) > 1 else len(text)


class UniLM:
    """<s> A </s> B </s> with hidden tokens, under four masks of attention (Dong et al. 2019, arXiv 1905.03197, 2.3).

    A third of the samples is read in both directions, a third as a sequence-to-sequence task (B sees A and itself to
    the left), a sixth from left to right and a sixth from right to left: with `order` int32 [B, S] a token sees those
    whose order is at most its own. token_types: 0 for A, 1 for B. Hidden: single tokens, in one sample of five words in
    runs of up to three.
    """

    layout: Layout = "pieces"
    partner = False
    SHARES = np.cumsum([1 / 3, 1 / 3, 1 / 6])

    def __init__(self, sequence_length: int, vocabulary: Vocabulary, single: Masking, runs: Masking) -> None:
        self.stride = self.length = sequence_length - 3
        self.width, self.vocabulary, self.single, self.runs = sequence_length, vocabulary, single, runs
        self.bos, self.eos, self.pad = (vocabulary.id(piece, "unilm") for piece in ("<s>", "</s>", "<pad>"))

    def apply(self, window: Window) -> Batch:
        count = len(window.tokens)
        tokens = np.full((count, self.width), self.pad, np.int64)
        types = np.zeros((count, self.width), np.int64)
        lengths = np.zeros(count, np.int64)
        bits = window.bits(self.runs.draws(self.width) + 3)
        draws = uniform(bits[:, -3:])
        for row, length in enumerate(window.lengths.tolist()):
            if length:
                text = window.tokens[row, :length]
                cut = split_point(text, self.vocabulary, draws[row, 1])
                closed = [self.bos, *text[:cut], self.eos, *text[cut:], self.eos]
                lengths[row] = len(closed)
                tokens[row, : len(closed)] = closed
                types[row, cut + 2 : len(closed)] = 1
        one = self.single(tokens, bits[:, : self.single.draws(self.width)])
        several = self.runs(tokens, bits[:, :-3])
        noised, targets = (np.where(draws[:, 2:] < 0.2, b, a) for a, b in zip(one, several, strict=True))
        batch = {**as_one_document(noised, lengths), "targets": targets, "token_types": types}
        return {**batch, "order": self._order(batch, np.searchsorted(self.SHARES, draws[:, 0], side="right"))}

    def _order(self, batch: Batch, kind: np.ndarray) -> np.ndarray:
        """kind: 0 both directions, 1 sequence to sequence, 2 left to right, 3 right to left."""
        positions = batch["positions"]
        behind = batch["segments"] != PADDING
        orders = [
            np.zeros_like(positions),
            np.where(batch["token_types"] == 1, positions, 0),
            positions,
            np.where(behind, self.width - positions, 0),
        ]
        return np.choose(kind[:, None], orders).astype(np.int32)


def unilm(config: Config, vocabulary: Vocabulary) -> UniLM:
    single, runs = Masking.of(config, vocabulary, "token"), Masking.of(config, vocabulary, "ngram")
    return UniLM(config.data.sequence_length, vocabulary, single, runs)
