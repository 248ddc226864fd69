"""Masked language modelling of pairs: with a question about the two (BERT, ALBERT), or under several masks (UniLM)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainer.config import Config
from trainer.objectives.base import NO_TARGET, PADDING, Batch, Layout, Window
from trainer.objectives.examples import Side, in_rows
from trainer.objectives.masking import Masking, mask_draw
from trainer.objectives.noise import uniform
from trainer.objectives.vocabulary import Vocabulary

Pair = tuple[np.ndarray, np.ndarray]  # the tokens of A and of B


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
        """As MaskedLM, with token_types int64 [B, S] (0 for A, for B the vocabulary's second_type) and sentence_label
        int64 [B]."""
        count, draw = len(window.tokens), mask_draw(window.texts, self.copies)
        bits = draw(np.full(count, 8), self.masking.draws(self.width)).reshape(count, 8)
        labels, pairs = np.full(count, NO_TARGET, np.int64), list[Pair]()
        for row, length in enumerate(window.lengths.tolist()):
            a = b = window.tokens[row, :0]
            if length:
                a, b, labels[row] = self._pair(window, row, length, bits[row])
            pairs.append((a, b))
        tokens, types, lengths = closed(pairs, self.bos, self.eos, second=False)
        noised, targets = self.masking(tokens, lengths, draw, self.width)
        types = types * self.vocabulary.second_type
        side = Side({"tokens": noised, "targets": targets, "token_types": types}, lengths, self.width, lengths > 0)
        return {**in_rows({"": side}, np.arange(count), self.pad), "sentence_label": labels}

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


def closed(pairs: list[Pair], bos: int, eos: int, second: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens, token types: 0 for A and 1 for B, lengths) of <s> A </s> B </s>, end to end; of no text: nothing.

    second: whether a B without tokens has its </s> all the same.
    """
    edge, tokens, types, lengths = np.array([bos, eos]), list[np.ndarray](), list[int](), list[int]()
    for a, b in pairs:
        some, behind = len(a) > 0 or len(b) > 0, len(b) > 0 or second
        one, other = some * (len(a) + 2), some * behind * (len(b) + 1)
        if some:
            tokens += [edge[:1], a, edge[1:], b, edge[1:] if behind else edge[:0]]
        types += [one, other]
        lengths.append(one + other)
    found = np.concatenate([edge[:0], *tokens])
    return found, np.tile([0, 1], len(pairs)).repeat(types), np.array(lengths, np.int64)


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
    whose order is at most its own. token_types as in PairedLM. Hidden: single tokens, in one sample of five words in
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
        draws = uniform(window.texts.draw(np.full(count, 3), first=self.runs.draws(self.width)).reshape(count, 3))
        pairs = []
        for row, length in enumerate(window.lengths.tolist()):
            text = window.tokens[row, :length]
            cut = split_point(text, self.vocabulary, draws[row, 1]) if length else 0
            pairs.append((text[:cut], text[cut:]))
        tokens, types, lengths = closed(pairs, self.bos, self.eos, second=True)
        one, several = (
            masking(tokens, lengths, mask_draw(window.texts, None), self.width) for masking in (self.single, self.runs)
        )
        in_words = (draws[:, 2] < 0.2).repeat(lengths)
        noised, targets = (np.where(in_words, b, a) for a, b in zip(one, several, strict=True))
        side = Side({"tokens": noised, "targets": targets, "token_types": types}, lengths, self.width, lengths > 0)
        batch = in_rows({"": side}, np.arange(count), self.pad)
        order = self._order(batch, np.searchsorted(self.SHARES, draws[:, 0], side="right"))
        return {**batch, "token_types": batch["token_types"] * self.vocabulary.second_type, "order": order}

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
