"""Span corruption: by one denoiser (T5), or by a mixture of them (UL2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from trainer.descriptions.objectives import TEXT, ObjectiveDescription
from trainer.descriptions.objectives.keys import MeanSpan, Rate


@dataclass(frozen=True)
class Denoiser:
    """One way to corrupt. A mean_span of None: the end of the text is hidden, as one span (UL2's S).

    mode: the special token that the encoder reads first.
    """

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

    def text_length(self, sequence_length: int) -> int:
        """The most text whose source fits in `sequence_length` tokens: 568 for 512 at 15% and 3."""
        length = sequence_length
        while self.source_length(length + 1) <= sequence_length:
            length += 1
        while self.source_length(length) > sequence_length:
            length -= 1
        # T5's own exception: at one half the targets shall not be longer than the source.
        return length - (self.rate == 0.5 and self.target_length(length) > sequence_length)


# UL2's denoisers, equally likely (arXiv 2205.05131, table 1): R and X corrupt spans, S the end.
UL2_DENOISERS = (
    Denoiser(0.15, 3, "<NLU>"),
    Denoiser(0.15, 8, "<NLU>"),
    Denoiser(0.5, 3, "<NLG>"),
    Denoiser(0.5, 8, "<NLG>"),
    Denoiser(0.15, 64, "<NLG>"),
    Denoiser(0.5, 64, "<NLG>"),
    Denoiser(0.25, None, "<S2S>"),
)


def text_length(denoisers: tuple[Denoiser, ...], sequence_length: int) -> int:
    """Tokens of text of a sample: as many as every denoiser can make fit."""
    return min(denoiser.text_length(sequence_length) for denoiser in denoisers)


class _Spans(ObjectiveDescription, ABC):
    implementation = "trainer.objectives.spans:span_corruption"
    families = ("encoder_decoder",)
    parts = ("source", "target")
    infills = "sentinels"

    @abstractmethod
    def denoisers(self, keys: Any) -> tuple[Denoiser, ...]:
        """The denoisers, of which every sample has one at random."""

    def target_length(self, keys: Any, sequence_length: int) -> int:
        denoisers = self.denoisers(keys)
        length = text_length(denoisers, sequence_length)
        return max(denoiser.target_length(length) for denoiser in denoisers)


class SpanCorruption(_Spans):
    name = "span_corruption"
    help = "the decoder writes the spans that sentinels stand for (T5)"
    encoder_input = (TEXT, "</s>")

    class Keys(MeanSpan, Rate):
        pass

    def denoisers(self, keys: Any) -> tuple[Denoiser, ...]:
        return (Denoiser(keys.rate, keys.mean_span),)


class UL2(_Spans):
    name = "ul2"
    help = "a mixture of seven ways to corrupt spans or the end of the text (UL2)"
    encoder_input = ("<NLU>", TEXT, "</s>")

    def denoisers(self, keys: Any) -> tuple[Denoiser, ...]:
        return UL2_DENOISERS
