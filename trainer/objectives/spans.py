"""Span corruption: spans become sentinels, the decoder writes what they hid (T5, Raffel et al. 2020; UL2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from trainer.objectives import noise
from trainer.objectives.base import Batch, Layout, Window, side, teacher
from trainer.objectives.noise import Draw, below, choose_few
from trainer.objectives.ranges import numbers
from trainer.objectives.vocabulary import Vocabulary


def _segmentations(draw: Draw, lengths: tuple[int, int], parts: int, rows: int) -> np.ndarray:
    """int64 [2, B, parts]: the sizes of that many non-empty parts of each of two lengths, every cut equally likely."""

    def both(count: int, part: int) -> np.ndarray:
        return np.concatenate([draw(count, part), draw(count, part + 2)])

    edges = np.zeros((2, rows, parts + 1), np.int64)
    edges[0, :, -1], edges[1, :, -1] = lengths
    if parts > 1:
        width, bound, count = max(lengths), np.repeat(lengths, rows) - 1, np.full(2 * rows, parts - 1)
        cuts = choose_few(both, 1, width, bound, count, 2 * parts + 16)
        edges[..., 1:-1] = 1 + (cuts % width).reshape(2, rows, parts - 1)
    return edges[..., 1:] - edges[..., :-1]


@dataclass(frozen=True)
class Denoiser:
    """One way to corrupt. A mean_span of None: the end of the text is hidden, as one span (UL2's S)."""

    rate: float
    mean_span: float | None
    mode: str | None = None

    def counts(self, length: int) -> tuple[int, int]:
        """(hidden tokens, spans) of a text: constants, not draws; T5's rules, ties rounded to even."""
        hidden = min(max(round(length * self.rate), 1), length - 1)
        if hidden < 1:
            return 0, 0
        return hidden, min(max(round(hidden / (self.mean_span or hidden)), 1), hidden, length - hidden)

    def source_length(self, length: int) -> int:
        """Tokens that the encoder reads: the mode, what remains, a sentinel for each span, </s>."""
        hidden, spans = self.counts(length)
        return bool(self.mode) + length - hidden + spans + 1

    def target_length(self, length: int) -> int:
        """Tokens that the decoder writes: the spans, a sentinel before each, </s>."""
        return sum(self.counts(length)) + 1

    def raw_length(self, sequence_length: int) -> int:
        """The most text whose source fits in `sequence_length` tokens: 568 for 512 at 15% and 3."""
        length = sequence_length
        while self.source_length(length + 1) <= sequence_length:
            length += 1
        while self.source_length(length) > sequence_length:
            length -= 1
        # T5's own exception: at one half the targets shall not be longer than the source.
        return length - (self.rate == 0.5 and self.target_length(length) > sequence_length)

    def runs(self, draw: Draw, rows: int, length: int) -> np.ndarray:
        """int64 [B, 2 spans + 2]: tokens hidden, kept, hidden, kept ...; the first run and the last are empty.

        Text and spans alternate: text begins, a span ends. Text without a span is [0, length].
        """
        hidden, spans = self.counts(length)
        runs = np.zeros((rows, 2 * spans + 2), np.int64)
        if spans:
            runs[:, 1:-1:2], runs[:, 2::2] = _segmentations(draw, (length - hidden, hidden), spans, rows)
        else:
            runs[:, 1] = length
        return runs


class SpanCorruption:
    """A mixture of denoisers, one per sample; T5 is a mixture of one.

    data.sequence_length is what the encoder reads at most. A sample is as much text as every denoiser can make fit.
    """

    families: tuple[str, ...] = ("encoder_decoder",)
    partner = False
    languages = False

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
        self.stride = self.length = min(denoiser.raw_length(sequence_length) for denoiser in denoisers)
        self.target_width = max(denoiser.target_length(self.length) for denoiser in denoisers)
        self.sentinels = vocabulary.sentinels(max(denoiser.counts(self.length)[1] for denoiser in denoisers), name)

    def room(self, length: int) -> int:
        """What the greediest denoiser takes."""
        return max(
            max(one.source_length(length), -(-one.target_length(length) * self.width // self.target_width))
            for one in self.denoisers
        )

    def apply(self, window: Window) -> Batch:
        """source_tokens, source_segments, source_positions [B, S]; tokens, targets, segments, positions [B, T]."""
        rows = len(window.tokens)
        several = len(self.denoisers) > 1
        which = below(window.bits(1)[:, 0], len(self.denoisers)) if several else np.zeros(rows, np.int64)
        sources = np.full((rows, self.width), self.pad, np.int64)
        targets = np.full((rows, self.target_width), self.pad, np.int64)
        source_lengths, target_lengths = np.zeros((2, rows), np.int64)
        kind = which * (self.length + 1) + window.lengths
        for number, length in (divmod(group, self.length + 1) for group in set(kind.tolist())):
            if not length:
                continue
            alike = kind == number * (self.length + 1) + length
            members = slice(None) if alike.all() else np.flatnonzero(alike)
            draw = partial(noise.rows, window.seed, "noise", window.index[members])
            source, target = self.corrupt(window.tokens[members, :length], draw, number)
            sources[members, : source.shape[1]] = source
            targets[members, : target.shape[1]] = target
            source_lengths[members], target_lengths[members] = source.shape[1], target.shape[1]
        return {**side(sources, source_lengths, "source_"), **teacher(targets, target_lengths, self.bos, self.pad)}

    def corrupt(self, text: np.ndarray, draw: Draw, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, targets) of rows of one length by one denoiser; nothing is padded, for the counts are constants."""
        rows, length = text.shape
        runs = self.denoisers[number].runs(draw, rows, length)
        begins = np.cumsum(runs, axis=1) - runs + length * np.arange(rows)[:, None]
        # Source: the kept runs; targets: the hidden ones; the same marks behind either's.
        runs, begins = (np.concatenate([a[:, 1::2], a[:, 0::2]], axis=1) for a in (runs, begins))
        spans = runs.shape[1] // 2 - 1
        marks = np.concatenate([self.sentinels[:spans], [self.eos]] * 2)
        places = numbers(begins.ravel(), (begins + runs + 1).ravel())
        both = text.ravel().take(places, mode="clip").reshape(rows, -1)  # the last mark's place is behind the text
        ends = np.cumsum(runs + 1, axis=1)
        both[np.arange(rows)[:, None], ends - 1] = marks
        source, targets = both[:, : ends[0, spans]], both[:, ends[0, spans] :]
        if (mode := self.modes[number]) >= 0:
            source = np.insert(source, 0, mode, axis=1)
        return source, targets


def ul2() -> tuple[Denoiser, ...]:
    """UL2's seven denoisers, equally likely (arXiv 2205.05131, table 1): R and X corrupt spans, S the end."""
    regular = [Denoiser(0.15, 3, "<NLU>"), Denoiser(0.15, 8, "<NLU>")]
    extreme = [Denoiser(rate, span, "<NLG>") for rate, span in ((0.5, 3), (0.5, 8), (0.15, 64), (0.5, 64))]
    return (*regular, *extreme, Denoiser(0.25, None, "<S2S>"))
