"""Several examples in one sample: a stretch of a document becomes an example by itself, and they lie side by side."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from trainer.objectives.base import Batch, Objective, Texts, Window
from trainer.objectives.examples import TextObjective, from_rows, in_rows


class Fitting(Objective, Protocol):
    """An objective whose examples can share a sample."""

    def packed_length(self, length: int) -> int:
        """The most tokens of a sample that an example of `length` tokens of text takes: of its source, or of its target
        scaled to the source's width. Examples whose packed lengths fit in a sample fit in it with both."""
        ...


class Packed:
    """Examples of the inner objective, those of one sample end to end. Encoder and decoder number their segments alike,
    so that the decoder sees the source of its own example."""

    partner = False

    def __init__(self, inner: Fitting, pad: int) -> None:
        self.inner, self.pad, self.layout = inner, pad, inner.layout
        self.stride, self.length = inner.stride, inner.length

    def packed_lengths(self, sequence_length: int) -> np.ndarray:
        """int64 [length + 1]: the packed length of a text of 0, 1, 2 ... tokens, at most that of a sample."""
        lengths = np.array([0, *(self.inner.packed_length(length) for length in range(1, self.length + 1))])
        return np.minimum(np.maximum.accumulate(lengths), sequence_length)

    def apply(self, window: Window) -> Batch:
        """As `pack`. window: a row for each text."""
        return self.pack(window.texts)

    def pack(self, texts: Texts) -> Batch:
        """The inner objective's arrays, one row for each sample, see Texts.owner."""
        assert texts.owner is not None
        if isinstance(self.inner, TextObjective):
            examples = self.inner.examples(texts)
        else:
            examples = from_rows(self.inner.apply(texts.window(self.length, self.pad)))
        return in_rows(examples, texts.owner, self.pad)
