"""Pairs of texts as chunks: both sides of a pair in one, `A </s> <s> B`, as they lie in the stream."""

from __future__ import annotations

import numpy as np

from trainer.data.layouts import ChunkBatch, TextLayout
from trainer.data.shards import TokenStream


class Pairs(TextLayout):
    """Chunks of one pair each, or of one document that is half of none; without the outer <s> and </s>.

    What is longer than a chunk is cut into equally many stretches on both sides, of which the first ones make a chunk,
    then the second ones, and so on: so each has about what the other side says there.
    """

    def __init__(
        self, stream: TokenStream, second: np.ndarray, length: int, pad: int, between: tuple[int, int]
    ) -> None:
        """second: bool [documents], which are the second of a pair. between: the tokens between the two sides."""
        super().__init__(stream, length, length, pad)
        self.between = np.array(between, np.int64)
        texts = np.diff(stream.starts, append=len(stream)) - 2
        self.units = np.flatnonzero(~second)  # documents that begin a pair, or are alone
        self.paired = np.append(second[1:], False)[self.units]
        behind = np.minimum(self.units + 1, max(0, len(texts) - 1))
        self.sizes = np.stack([texts[self.units], texts[behind] * self.paired])  # int64 [2, units]
        self.begins = np.stack([stream.starts[self.units], stream.starts[behind]]) + 1
        both = self.sizes.sum(axis=0)
        room = length - 2 * self.paired
        # Rounding down may give each side of a pair a token more than its share.
        self.cuts = np.where(both <= room, both > 0, -(-both // np.maximum(1, room - 2 * self.paired)))
        self.first = self.cuts.cumsum() - self.cuts  # number of each unit's first chunk
        self.pieces = int(self.cuts.sum())

    def count(self, whole: bool) -> int:
        return self.pieces

    def lengths(self) -> np.ndarray:
        """int64 [chunks]: tokens of each."""
        return self._sizes(np.arange(self.pieces))

    def document(self, indices: np.ndarray) -> np.ndarray:
        return self.units[self._unit_of(indices)]

    def offset(self, indices: np.ndarray) -> np.ndarray:
        return self._edges(indices)[0][0]

    def texts(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        begin, end = self._edges(indices)
        unit, sizes = self._unit_of(indices), end - begin
        paired = self.paired[unit] & (indices < self.pieces)
        places = self.begins[:, unit] + begin
        tokens = self.stream.stretches(places.T.ravel(), sizes.T.ravel())
        ends = sizes.sum(axis=0).cumsum() - sizes[1]  # of the first sides
        tokens = np.insert(tokens, ends[paired].repeat(2), np.tile(self.between, int(paired.sum())))
        return tokens, sizes.sum(axis=0) + 2 * paired, None

    def cut(self, indices: np.ndarray) -> ChunkBatch:
        tokens, lengths, _ = self.texts(indices)
        rows = np.full((len(indices), self.length), self.pad, np.int64)
        rows[np.arange(self.length) < lengths[:, None]] = tokens
        return self._unit(rows, lengths)

    def _unit_of(self, indices: np.ndarray) -> np.ndarray:
        return self.first.searchsorted(np.minimum(indices, self.pieces - 1), side="right") - 1

    def _edges(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(begin, end) int64 [2, chunks]: which tokens of either side a chunk has; none past the end."""
        unit = self._unit_of(indices)
        number, cuts, sizes = indices - self.first[unit], np.maximum(1, self.cuts[unit]), self.sizes[:, unit]
        begin = sizes * np.minimum(number, cuts) // cuts
        end = sizes * np.minimum(number + 1, cuts) // cuts
        return begin, end

    def _sizes(self, indices: np.ndarray) -> np.ndarray:
        begin, end = self._edges(indices)
        return (end - begin).sum(axis=0) + 2 * self.paired[self._unit_of(indices)]
