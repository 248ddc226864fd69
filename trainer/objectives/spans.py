"""Span corruption: spans become sentinels, the decoder writes what they hid (T5, Raffel et al. 2020; UL2)."""

from __future__ import annotations

import numpy as np

from trainer.config import Config
from trainer.descriptions.objectives.span_corruption import Denoiser, text_length
from trainer.objectives import noise
from trainer.objectives.base import Layout, Texts, text_layout
from trainer.objectives.examples import Examples, Side, TextObjective
from trainer.objectives.noise import below, choose_few
from trainer.objectives.ranges import numbers
from trainer.objectives.vocabulary import Vocabulary


def random_spans(texts: Texts, hidden: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(begin, end) of all spans, int64 [sum of spans]: places in the texts, which lie end to end.

    hidden, spans: int64 [B], so many tokens of each text, in so many spans. Text and spans alternate: text begins, a
    span ends. Text between spans and spans themselves are cut each by itself into parts that are not empty, every cut
    equally likely.
    """
    count = len(spans)
    sizes = np.concatenate([texts.lengths - hidden, hidden])  # of the texts between spans, and of the spans
    origin = sizes.cumsum() - sizes
    index, parts = np.concatenate([texts.index, texts.index]), np.array([1, 3]).repeat(count)

    def draw(counts: np.ndarray, part: int) -> np.ndarray:
        return noise.stretches(texts.seed, "noise", index, counts, parts + part)

    both = np.concatenate([spans, spans])
    bound, tries = np.maximum(sizes - 1, 0), 2 * both + 16
    cuts = 1 + choose_few(draw, 0, origin, bound, np.maximum(both - 1, 0), tries)
    ends = np.sort(np.concatenate([cuts, (origin + sizes)[both > 0]]))
    text_ends, span_ends = ends[: spans.sum()], ends[spans.sum() :] - sizes[:count].sum()
    begin = text_ends.copy()
    begin[1:] += span_ends[:-1]
    return begin, text_ends + span_ends


class SpanCorruption(TextObjective):
    """A mixture of denoisers, one per sample; T5 is a mixture of one.

    data.sequence_length is what the encoder reads at most. A sample is as much text as every denoiser can make fit.
    """

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
        counts = [[denoiser.counts(length) for length in range(self.length + 1)] for denoiser in denoisers]
        # int64 [denoisers, length + 1]: of a text of 0, 1, 2 ... tokens
        self.hidden, self.spans = np.ascontiguousarray(np.array(counts).transpose(2, 0, 1))
        self.sentinels = vocabulary.sentinels(int(self.spans[:, -1].max()), name)

    def packed_length(self, length: int) -> int:
        """What the denoiser takes that needs the most tokens."""
        return max(
            max(one.source_length(length), -(-one.target_length(length) * self.width // self.target_width))
            for one in self.denoisers
        )

    def examples(self, texts: Texts) -> Examples:
        """The encoder reads the text with a sentinel for each span, the decoder writes the spans behind theirs."""
        which = np.zeros(len(texts.index), np.int64)
        if len(self.denoisers) > 1:
            which = below(texts.draw(np.ones_like(which)), len(self.denoisers))
        hidden, spans = self.hidden[which, texts.lengths], self.spans[which, texts.lengths]
        begin, end = random_spans(texts, hidden, spans)
        sentinels = self.sentinels[numbers(np.zeros_like(spans), spans)]
        kept = np.ones(len(texts.tokens), bool)
        kept[numbers(begin + 1, end)] = False
        source = texts.tokens.copy()
        source[begin] = sentinels
        source = source[kept]

        kept[begin - 1] = kept[begin] = False
        targets = texts.tokens.copy()
        targets[begin - 1] = sentinels  # where the last token before the span stood
        targets = targets[~kept]
        some, read = texts.lengths > 0, texts.lengths - hidden + spans
        modes = self.modes[which] if self.modes.max() >= 0 else None
        written = {"targets": targets}, hidden + spans, self.target_width, some
        return {
            "source_": Side({"tokens": source}, read, self.width, some, first=modes, last=self.eos),
            "": Side(*written, start=self.start, last=self.eos),
        }


def span_corruption(config: Config, vocabulary: Vocabulary) -> SpanCorruption:
    """Also UL2: the denoisers are those of the description."""
    keys, description = config.objective, config.objective.description
    denoisers = description.denoisers(keys)  # type: ignore[attr-defined]
    return SpanCorruption(keys.name, config.data.sequence_length, vocabulary, denoisers, layout=text_layout(config))
