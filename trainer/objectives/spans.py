"""Span corruption: spans become sentinels, the decoder writes what they hid (T5, Raffel et al. 2020; UL2)."""

from __future__ import annotations

from functools import partial

import numpy as np

from trainer.config import Config
from trainer.descriptions.objectives.span_corruption import Denoiser, text_length
from trainer.objectives import noise
from trainer.objectives.base import Batch, Layout, Window, as_one_document, shift_right, text_layout
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


def runs(denoiser: Denoiser, draw: Draw, rows: int, length: int) -> np.ndarray:
    """int64 [B, 2 spans + 2]: tokens hidden, kept, hidden, kept ...; the first run and the last are empty.

    Text and spans alternate: text begins, a span ends. Text without a span is [0, length].
    """
    hidden, spans = denoiser.counts(length)
    sizes = np.zeros((rows, 2 * spans + 2), np.int64)
    if spans:
        sizes[:, 1:-1:2], sizes[:, 2::2] = _segmentations(draw, (length - hidden, hidden), spans, rows)
    else:
        sizes[:, 1] = length
    return sizes


class SpanCorruption:
    """A mixture of denoisers, one per sample; T5 is a mixture of one.

    data.sequence_length is what the encoder reads at most. A sample is as much text as every denoiser can make fit.
    """

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
        self.start, self.eos, self.pad = (
            vocabulary.start(name),
            vocabulary.id("</s>", name),
            vocabulary.id("<pad>", name),
        )
        self.modes = np.array([vocabulary.id(d.mode, name) if d.mode else -1 for d in denoisers])
        self.stride = self.length = text_length(denoisers, sequence_length)
        self.target_width = max(denoiser.target_length(self.length) for denoiser in denoisers)
        self.sentinels = vocabulary.sentinels(max(denoiser.counts(self.length)[1] for denoiser in denoisers), name)

    def packed_length(self, length: int) -> int:
        """What the denoiser takes that needs the most tokens."""
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
        return {
            **as_one_document(sources, source_lengths, "source_"),
            **shift_right(targets, target_lengths, self.start, self.pad),
        }

    def corrupt(self, text: np.ndarray, draw: Draw, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, targets) of rows of one length by one denoiser; nothing is padded, for the counts are constants."""
        rows, length = text.shape
        sizes = runs(self.denoisers[number], draw, rows, length)
        begins = np.cumsum(sizes, axis=1) - sizes + length * np.arange(rows)[:, None]
        # Source: the kept runs; targets: the hidden ones; the same marks behind either's.
        sizes, begins = (np.concatenate([a[:, 1::2], a[:, 0::2]], axis=1) for a in (sizes, begins))
        spans = sizes.shape[1] // 2 - 1
        marks = np.concatenate([self.sentinels[:spans], [self.eos]] * 2)
        places = numbers(begins.ravel(), (begins + sizes + 1).ravel())
        both = text.ravel().take(places, mode="clip").reshape(rows, -1)  # the last mark's place is behind the text
        ends = np.cumsum(sizes + 1, axis=1)
        both[np.arange(rows)[:, None], ends - 1] = marks
        source, targets = both[:, : ends[0, spans]], both[:, ends[0, spans] :]
        if (mode := self.modes[number]) >= 0:
            source = np.insert(source, 0, mode, axis=1)
        return source, targets


def span_corruption(config: Config, vocabulary: Vocabulary) -> SpanCorruption:
    """Also UL2: the denoisers are those of the description."""
    keys, description = config.objective, config.objective.description
    denoisers = description.denoisers(keys)  # type: ignore[attr-defined]
    return SpanCorruption(keys.name, config.data.sequence_length, vocabulary, denoisers, layout=text_layout(config))
