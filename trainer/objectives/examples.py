"""Examples of texts of different lengths: made end to end, and laid out in the rows of a batch at the end.

So a batch costs what its tokens cost, however many texts share a sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from trainer.objectives.base import NO_TARGET, PADDING, Batch, Texts, Window
from trainer.objectives.ranges import put_among

FILL = {"tokens": None, "segments": PADDING, "targets": NO_TARGET}  # behind the examples of a row; None: <pad>


@dataclass(frozen=True)
class Side:
    """What the encoder or the decoder has of B examples.

    arrays: "tokens" and others of the same size, each of all examples end to end. lengths: int64 [B], of the examples.
    width: of a batch's rows.
    """

    arrays: Batch
    lengths: np.ndarray
    width: int


Examples = dict[str, Side]  # by the prefix of the batch's arrays: "" and "source_"


class TextObjective(ABC):
    """An objective that makes an example of each stretch of text by itself."""

    pad: int
    partner = False

    @abstractmethod
    def examples(self, texts: Texts) -> Examples:
        """The examples of these texts; pure, and each depends on its own text and index alone."""

    def apply(self, window: Window) -> Batch:
        """A row for each example."""
        return in_rows(self.examples(window.texts), np.arange(len(window.index)), self.pad)


def in_rows(examples: Examples, row: np.ndarray, pad: int) -> Batch:
    """The arrays of a batch, where examples of one row lie side by side, padded behind.

    row: int64, of each example, ascending. Segments number the examples of a row, positions restart at each.
    """
    batch: Batch = {}
    first = row.searchsorted(np.arange(int(row[-1]) + 2 if len(row) else 1))
    number = np.arange(len(row)) - first[row]
    for prefix, side in examples.items():
        ends = np.append(0, side.lengths.cumsum())
        edges = ends[first].tolist()
        begin = ends[:-1] - ends[first[row]]  # of each example in its row
        places = list(zip(row.tolist(), begin.tolist(), side.lengths.tolist(), number.tolist(), strict=True))
        batch[f"{prefix}segments"] = _segments(places, edges, side.width)
        batch[f"{prefix}positions"] = _positions(places, edges, side.width)
        for name, values in side.arrays.items():
            fill = FILL.get(name, 0)
            batch[prefix + name] = _padded(values, edges, side.width, pad if fill is None else fill)
    return batch


Places = list[tuple[int, int, int, int]]  # of every example: its row, its first column, its length, its number there


def _segments(places: Places, edges: list[int], width: int) -> np.ndarray:
    segments = _padded(np.empty(0, np.int32), edges, width, PADDING)
    for row, begin, length, number in places:
        segments[row, begin : begin + length] = number
    return segments


def _positions(places: Places, edges: list[int], width: int) -> np.ndarray:
    positions, columns = _padded(np.empty(0, np.int64), edges, width, 0), np.arange(width)
    for row, begin, length, _ in places:
        positions[row, begin : begin + length] = columns[:length]
    return positions


def _padded(values: np.ndarray, edges: list[int], width: int, fill: int) -> np.ndarray:
    """[rows, width]: row r has the values from edges[r] to edges[r + 1], where there are some, and is filled behind.

    Slice by slice, which is several times as fast as numpy's indexing by places.
    """
    padded = np.empty((len(edges) - 1, width), values.dtype)
    for row, begin, end in zip(padded, edges[:-1], edges[1:], strict=True):
        if len(values):
            row[: end - begin] = values[begin:end]
        row[end - begin :] = fill
    return padded


def from_rows(batch: Batch) -> Examples:
    """The examples of a batch that has each in a row of its own."""
    found: Examples = {}
    for prefix in ("source_", "") if "source_tokens" in batch else ("",):
        inside = batch[f"{prefix}segments"] != PADDING
        places = np.flatnonzero(inside)
        arrays = {
            name.removeprefix(prefix): array.ravel().take(places)
            for name, array in batch.items()
            if name.startswith("source_") == bool(prefix) and name != f"{prefix}segments"
        }
        found[prefix] = Side(arrays, inside.sum(axis=1), inside.shape[1])
    return found


def with_ends(
    texts: np.ndarray, lengths: np.ndarray, some: np.ndarray, first: int | None, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """(texts with `first` before and `last` behind each, their lengths). some: bool [B], those that get them."""
    added = (first is not None) + 1
    lengths = lengths + added * some
    ends = lengths.cumsum()
    begins, behind = (ends - lengths)[some], ends[some] - 1
    if first is None:
        return put_among(texts, behind, last), lengths
    places, tokens = np.stack([begins, behind], axis=1).ravel(), np.tile([first, last], len(begins))
    return put_among(texts, places, tokens), lengths


def decoder_side(targets: np.ndarray, lengths: np.ndarray, start: int, width: int) -> Side:
    """Teacher forcing: the decoder reads `start` and then its targets."""
    tokens = np.empty_like(targets)
    tokens[1:] = targets[:-1]
    tokens[(lengths.cumsum() - lengths)[lengths > 0]] = start
    return Side({"tokens": tokens, "targets": targets}, lengths, width)
