"""Several examples in one sample: a stretch of a document becomes an example by itself, and they lie side by side."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from trainer.objectives.base import NO_TARGET, PADDING, Batch, Objective, Window


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
        """The inner objective's arrays, one row for each sample. window: a row for each document, see Window.owner."""
        assert window.owner is not None
        batch = self.inner.apply(window)
        packed: Batch = {}
        for prefix in ("source_", "") if "source_tokens" in batch else ("",):
            arrays = {name: a for name, a in batch.items() if name.startswith("source_") == bool(prefix)}
            packed |= self._side_by_side(arrays, arrays[f"{prefix}segments"], window.owner)
        return packed

    def _side_by_side(self, arrays: Batch, segments: np.ndarray, owner: np.ndarray) -> Batch:
        """segments: [documents, width], padding behind. owner: [documents], the sample of each, ascending."""
        documents, width = segments.shape
        rows = int(owner[-1]) + 1
        counts = (segments != PADDING).sum(axis=1)
        before = np.cumsum(counts) - counts  # tokens of all documents before
        first = np.searchsorted(owner, np.arange(rows))[owner]  # of each one's sample
        number, begin = np.arange(documents) - first, before - before[first]
        # Slice by slice, which is several times as fast as numpy's indexing by places.
        places = list(zip(owner.tolist(), begin.tolist(), (begin + counts).tolist(), counts.tolist(), strict=True))
        packed: Batch = {}
        for name, array in arrays.items():
            fill = {"tokens": self.pad, "segments": PADDING, "targets": NO_TARGET}.get(name.removeprefix("source_"), 0)
            packed[name] = np.full((rows, width), fill, array.dtype)
            given = number[:, None].repeat(width, axis=1) if name.endswith("segments") else array
            for (row, at, end, count), one in zip(places, given, strict=True):
                packed[name][row, at:end] = one[:count]
        return packed
