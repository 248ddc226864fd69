"""How a corpus is cut into chunks, and how chunk number j is found without an index of chunks.

stream     documents end to end, <s> and </s> included; chunks without gaps, segments number the documents
documents  the same tokens, but every chunk inside one document, padded behind
text       documents end to end without <s> and </s>; a chunk is one segment of text
pieces     the same text, but every chunk inside one document, padded behind
best_fit   several such pieces in a sample, put together so that little padding is needed
next_fit   several in a sample, in their order, the last one cut where the sample is full (see next_fit.py)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from trainer.data.shards import TokenStream
from trainer.objectives import PADDING, Layout
from trainer.objectives.ranges import numbers, without


@dataclass(frozen=True)
class ChunkBatch:
    """B chunks: tokens int64 [B, L], segments int32 [B, L] (-1 for padding), positions int64 [B, L].

    begins: (rows, columns) where documents begin inside the chunks. context: int64 [B], how many of a chunk's first
    tokens an earlier chunk has too, where that is not the same for all.
    """

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    begins: tuple[np.ndarray, np.ndarray] | None = None
    context: np.ndarray | None = None


def crossings(starts: np.ndarray, begin: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(row, document) of every document that begins inside a chunk but not at its first token.

    starts: where documents begin, ascending; begin: where the chunks do, which are all of one length.
    """
    first, last = starts.searchsorted(begin + 1), starts.searchsorted(begin + length)
    return np.arange(len(begin)).repeat(last - first), numbers(first, last)


class ChunkLayout(ABC):
    """Chunks of one split. Chunk j begins `stride` tokens behind chunk j - 1 and has `length` tokens."""

    def __init__(self, stream: TokenStream, stride: int, length: int, pad: int) -> None:
        self.stream, self.stride, self.length, self.pad = stream, stride, length, pad

    @abstractmethod
    def count(self, whole: bool) -> int:
        """Number of chunks; `whole` leaves out one that the end of the corpus cuts short."""

    @abstractmethod
    def cut(self, indices: np.ndarray) -> ChunkBatch:
        """The chunks of these indices; an index past the end is all padding."""

    @abstractmethod
    def document(self, indices: np.ndarray) -> np.ndarray:
        """Number of the document in which each chunk begins."""

    @abstractmethod
    def offset(self, indices: np.ndarray) -> np.ndarray:
        """Tokens between the beginning of that document and the beginning of each chunk."""

    def _in_a_row(self, tokens: int, whole: bool) -> int:
        overlap = self.length - self.stride
        return max(0, (tokens - overlap) // self.stride if whole else -(-(tokens - overlap) // self.stride))

    def _unit(self, tokens: np.ndarray, lengths: np.ndarray) -> ChunkBatch:
        """Chunks of one segment each, of these lengths."""
        segments = np.zeros(tokens.shape, np.int32)
        positions = np.empty(tokens.shape, np.int64)
        positions[:] = np.arange(self.length)
        if (lengths < self.length).any():
            outside = np.arange(self.length) >= lengths[:, None]
            tokens[outside], segments[outside], positions[outside] = self.pad, PADDING, 0
        return ChunkBatch(tokens, segments, positions)


class TextLayout(ChunkLayout):
    """Chunks of one document each, without <s> and </s>, that can share a sample."""

    @abstractmethod
    def texts(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(tokens of the chunks, end to end; how many each has; context as in ChunkBatch); past the end: none."""


class StretchLayout(TextLayout):
    """Such chunks, each of which lies in the stream in one piece."""

    @abstractmethod
    def stretches(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(begin: where in the stream each chunk lies, its tokens, context as in ChunkBatch); past the end: none."""

    def texts(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        begin, lengths, context = self.stretches(indices)
        return self.stream.stretches(begin, lengths), lengths, context


class Stream(ChunkLayout):
    def __init__(self, stream: TokenStream, stride: int, length: int, pad: int, boundaries: bool = True) -> None:
        super().__init__(stream, stride, length, pad)
        self.boundaries = boundaries

    def count(self, whole: bool) -> int:
        return self._in_a_row(len(self.stream), whole)

    def document(self, indices: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.stream.starts, indices * self.stride, side="right") - 1

    def offset(self, indices: np.ndarray) -> np.ndarray:
        return indices * self.stride - self.stream.starts[self.document(indices)]

    def cut(self, indices: np.ndarray) -> ChunkBatch:
        begin = indices * self.stride
        rows, length = len(begin), self.length
        tokens = np.empty((rows, length), np.int64)
        self.stream.read(begin, tokens)
        columns = np.arange(length)
        segments = np.zeros((rows, length), np.int32)
        positions = np.empty((rows, length), np.int64)
        positions[:] = columns
        row = column = begin[:0]
        if self.boundaries:
            row, document = crossings(self.stream.starts, begin, length)
            column = self.stream.starts[document] - begin[row]
        if len(row) <= rows:  # long documents: few boundaries
            for r, c in zip(row.tolist(), column.tolist(), strict=True):
                segments[r, c:] = segments[r, c - 1] + 1
                positions[r, c:] = columns[: length - c]
        else:
            segments[row, column] = 1
            np.cumsum(segments, axis=1, out=segments)
            origin = np.zeros((rows, length), np.int64)
            origin[row, column] = column
            positions -= np.maximum.accumulate(origin, axis=1)
        if int(begin.max(initial=0)) + length > len(self.stream):
            outside = (begin[:, None] + columns) >= len(self.stream)
            tokens[outside], segments[outside], positions[outside] = self.pad, PADDING, 0
        return ChunkBatch(tokens, segments, positions, (row, column))


class Text(ChunkLayout):
    def __init__(self, stream: TokenStream, stride: int, length: int, pad: int) -> None:
        super().__init__(stream, stride, length, pad)
        # Where documents begin once <s> and </s> are gone.
        self.starts = stream.starts - 2 * np.arange(len(stream.starts))
        self.tokens = len(stream) - 2 * len(stream.starts)

    def count(self, whole: bool) -> int:
        return self._in_a_row(self.tokens, whole)

    def document(self, indices: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, indices * self.stride, side="right") - 1

    def offset(self, indices: np.ndarray) -> np.ndarray:
        return indices * self.stride - self.starts[self.document(indices)]

    def cut(self, indices: np.ndarray) -> ChunkBatch:
        begin = indices * self.stride
        # Each window as it stands in the stream, wide enough for the marks between documents, which are left out.
        row, document = crossings(self.starts, begin, self.length)
        marks = 2 * np.bincount(row, minlength=len(begin))
        places = begin + 2 * self.document(indices) + 1
        wide = np.empty((len(begin), self.length + int(marks.max(initial=0))), self.stream.dtype)
        self.stream.read(places, wide)
        if len(row):
            first = np.arange(0, wide.size, wide.shape[1])
            inner = first[row] + self.stream.starts[document] - places[row]  # where their <s> are
            begins, ends = without(first, first + self.length + marks, inner - 1, inner + 1)
            flat, texts = wide.ravel(), zip(begins.tolist(), ends.tolist(), strict=True)
            wide = np.concatenate([flat[a:b] for a, b in texts])
        tokens = wide.astype(np.int64).reshape(len(begin), self.length)
        return self._unit(tokens, (self.tokens - begin).clip(0, self.length))


class Pieces(StretchLayout):
    """`edges`: keep each document's <s> and </s>."""

    def __init__(self, stream: TokenStream, stride: int, length: int, pad: int, edges: bool) -> None:
        super().__init__(stream, stride, length, pad)
        ends = np.append(stream.starts[1:], len(stream))
        self.begins, self.ends = (stream.starts, ends) if edges else (stream.starts + 1, ends - 1)
        pieces = -(-np.maximum(self.ends - self.begins - (length - stride), 0) // stride)
        self.first = np.cumsum(pieces) - pieces  # number of each document's first piece
        self.pieces = int(pieces.sum())
        self.longest = int((self.ends - self.begins).max(initial=0))  # tokens of the longest document

    def count(self, whole: bool) -> int:
        return self.pieces

    def lengths(self) -> np.ndarray:
        """int64 [pieces]: tokens of each."""
        pieces = np.diff(self.first, append=self.pieces)
        within = np.arange(self.pieces) - np.repeat(self.first, pieces)
        return np.minimum(np.repeat(self.ends - self.begins, pieces) - within * self.stride, self.length)

    def document(self, indices: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.first, indices, side="right") - 1

    def offset(self, indices: np.ndarray) -> np.ndarray:
        return (indices - self.first[self.document(indices)]) * self.stride

    def stretches(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        document = self.document(indices)
        begin = self.begins[document] + (indices - self.first[document]) * self.stride
        return begin, np.where(indices < self.pieces, np.clip(self.ends[document] - begin, 0, self.length), 0), None

    def cut(self, indices: np.ndarray) -> ChunkBatch:
        begin, lengths, _ = self.stretches(indices)
        tokens = np.empty((len(indices), self.length), np.int64)
        self.stream.read(begin, tokens)
        return self._unit(tokens, lengths)


def chunk_layout(
    layout: Layout, stream: TokenStream, stride: int, length: int, pad: int, boundaries: bool = True
) -> ChunkLayout:
    """The chunks of a stream. boundaries: whether segments tell the documents of a chunk apart (layout stream)."""
    match layout:
        case "stream":
            return Stream(stream, stride, length, pad, boundaries)
        case "text":
            return Text(stream, stride, length, pad)
        case _:
            return Pieces(stream, stride, length, pad, edges=layout == "documents")
