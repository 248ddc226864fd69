"""Span corruption: spans become sentinels, the decoder writes what they hid (T5, Raffel et al. 2020; UL2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.objectives.base import Batch, Layout, Window, enclose, pack_left, side, teacher
from trainer.objectives.noise import below, choose
from trainer.objectives.vocabulary import Vocabulary


def span_counts(length: int, rate: float, mean_span: float) -> tuple[int, int]:
    """(noise tokens, spans) of a text of `length` tokens: constants, not draws; T5's rules, ties rounded to even."""
    noise = min(max(round(length * rate), 1), length - 1)
    if noise < 1:
        return 0, 0
    return noise, min(max(round(noise / mean_span), 1), noise, length - noise)


def source_length(length: int, rate: float, mean_span: float) -> int:
    """Tokens that the encoder reads: what remains, a sentinel for each span, </s>."""
    noise, spans = span_counts(length, rate, mean_span)
    return length - noise + spans + 1


def target_length(length: int, rate: float, mean_span: float) -> int:
    """Tokens that the decoder writes: the spans, a sentinel before each, </s>."""
    return sum(span_counts(length, rate, mean_span)) + 1


def raw_length(sequence_length: int, rate: float, mean_span: float) -> int:
    """The most text whose source fits in `sequence_length` tokens: 568 for 512 at 15% and 3."""
    length = sequence_length
    while source_length(length + 1, rate, mean_span) <= sequence_length:
        length += 1
    while source_length(length, rate, mean_span) > sequence_length:
        length -= 1
    return length


def _segmentation(raw: np.ndarray, spans: int) -> np.ndarray:
    """int64 [B, spans]: the lengths of that many non-empty runs of each row, every cut equally likely."""
    rows, length = raw.shape
    begins = np.zeros((rows, length), bool)
    begins[:, 0] = True
    begins[:, 1:] = (
        choose(raw[:, 1:], np.ones((rows, length - 1), bool), np.full(rows, spans - 1)) if length > 1 else False
    )
    edges = np.nonzero(begins)[1].reshape(rows, spans)
    return np.diff(edges, axis=1, append=length)


def span_mask(raw: np.ndarray, rate: float, mean_span: float) -> tuple[np.ndarray, np.ndarray]:
    """(hidden, first of a span): bool [B, L] each. Text and spans alternate; the text begins, a span ends the row."""
    rows, length = raw.shape
    noise, spans = span_counts(length, rate, mean_span)
    if not spans:
        return np.zeros((rows, length), bool), np.zeros((rows, length), bool)
    runs = np.empty((rows, 2 * spans), np.int64)
    runs[:, 0::2] = _segmentation(raw[:, noise:], spans)
    runs[:, 1::2] = _segmentation(raw[:, :noise], spans)
    edges = np.cumsum(runs, axis=1)[:, :-1]
    change = np.zeros((rows, length), np.int8)
    change[np.arange(rows)[:, None], edges] = 1
    hidden = np.cumsum(change, axis=1) % 2 == 1
    return hidden, hidden & (change == 1)


@dataclass(frozen=True)
class Denoiser:
    """One way to corrupt. A mean_span of None: the end of the text is hidden, as one span (UL2's S)."""

    rate: float
    mean_span: float | None
    mode: str | None = None

    def mask(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.mean_span is not None:
            return span_mask(raw, self.rate, self.mean_span)
        rows, length = raw.shape
        first = length - min(max(round(length * self.rate), 1), length - 1)
        columns = np.broadcast_to(np.arange(length), (rows, length))
        return columns >= first, columns == first

    def counts(self, length: int) -> tuple[int, int]:
        if self.mean_span is not None:
            return span_counts(length, self.rate, self.mean_span)
        noise = min(max(round(length * self.rate), 1), length - 1)
        return noise, int(noise > 0)


class SpanCorruption:
    """A mixture of denoisers, one per sample; T5 is a mixture of one.

    data.sequence_length is what the encoder reads at most; a sample holds as much text as fills it (raw_length).
    """

    families: tuple[str, ...] = ("encoder_decoder",)
    partner = False

    def __init__(
        self,
        name: str,
        sequence_length: int,
        vocabulary: Vocabulary,
        denoisers: tuple[Denoiser, ...],
        *,
        layout: Layout,
    ) -> None:
        self.layout, self.width, self.denoisers = layout, sequence_length, denoisers
        self.bos, self.eos, self.pad = (vocabulary.id(piece, name) for piece in ("<s>", "</s>", "<pad>"))
        self.modes = np.array([vocabulary.id(d.mode, name) if d.mode else -1 for d in denoisers])
        self.stride = self.length = self._raw_length()
        counts = [denoiser.counts(self.length) for denoiser in denoisers]
        self.target_width = max(noise + spans for noise, spans in counts) + 1
        self.sentinels = vocabulary.sentinels(max(spans for _, spans in counts), name)

    def _raw_length(self) -> int:
        def fits(length: int) -> bool:
            sizes = [
                (length - noise + spans + 1 + bool(d.mode))
                for d in self.denoisers
                for noise, spans in [d.counts(length)]
            ]
            return max(sizes) <= self.width

        length = self.width
        while fits(length + 1):
            length += 1
        while length > 1 and not fits(length):
            length -= 1
        return length

    def apply(self, window: Window) -> Batch:
        """source_tokens, source_segments, source_positions [B, S]; tokens, targets, segments, positions [B, T]."""
        rows = len(window.tokens)
        raw = window.bits(self.length + 1)
        which = below(raw[:, -1], len(self.denoisers))
        sources = np.full((rows, self.width), self.pad, np.int64)
        targets = np.full((rows, self.target_width), self.pad, np.int64)
        source_lengths, target_lengths = np.zeros((2, rows), np.int64)
        groups = np.stack([which, window.lengths])
        for number, length in np.unique(groups, axis=1).T.tolist():
            if not length:
                continue
            members = np.flatnonzero((which == number) & (window.lengths == length))
            source, target = self.corrupt(window.tokens[members, :length], raw[members, :length], number)
            sources[members, : source.shape[1]] = source
            targets[members, : target.shape[1]] = target
            source_lengths[members], target_lengths[members] = source.shape[1], target.shape[1]
        return {**side(sources, source_lengths, "source_"), **teacher(targets, target_lengths, self.bos, self.pad)}

    def corrupt(self, text: np.ndarray, raw: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, targets) of rows of one length by one denoiser; nothing is padded, for the counts are constants."""
        hidden, first = self.denoisers[number].mask(raw)
        return self._source(text, hidden, first, int(self.modes[number])), self._targets(text, hidden, first)

    def _source(self, text: np.ndarray, hidden: np.ndarray, first: np.ndarray, mode: int) -> np.ndarray:
        span = np.cumsum(first, axis=1) - 1
        shown = np.where(first, self.sentinels[np.maximum(span, 0)] if len(self.sentinels) else 0, text)
        keep = ~hidden | first
        source, lengths = pack_left(shown, keep, int(keep[0].sum()), self.pad)
        enclosed, _ = enclose(source, lengths, mode, self.eos, self.pad)
        return enclosed if mode >= 0 else enclosed[:, 1:]

    def _targets(self, text: np.ndarray, hidden: np.ndarray, first: np.ndarray) -> np.ndarray:
        spans, noise = int(first[0].sum()), int(hidden[0].sum())
        targets = np.full((len(text), noise + spans + 1), self.eos, np.int64)
        row, column = np.nonzero(hidden)
        span = np.cumsum(first, axis=1)
        place = (np.cumsum(hidden, axis=1) - 1 + span)[row, column]
        targets[row, place] = text[row, column]
        row, column = np.nonzero(first)
        place = (np.cumsum(hidden, axis=1) - 2 + span)[row, column]
        targets[row, place] = self.sentinels[(span - 1)[row, column]]
        return targets


def ul2() -> tuple[Denoiser, ...]:
    """UL2's seven denoisers, equally likely (arXiv 2205.05131, table 1): R and X corrupt spans, S the end."""
    regular = [Denoiser(0.15, 3, "<NLU>"), Denoiser(0.15, 8, "<NLU>")]
    extreme = [Denoiser(rate, span, "<NLG>") for rate, span in ((0.5, 3), (0.5, 8), (0.15, 64), (0.5, 64))]
    return (*regular, *extreme, Denoiser(0.25, None, "<S2S>"))
