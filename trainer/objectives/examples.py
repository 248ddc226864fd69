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


Token = int | np.ndarray | None  # one for all examples; or int64 [B], -1 for none; or none for all


@dataclass(frozen=True)
class Side:
    """What the encoder or the decoder has of B examples.

    arrays: "tokens", "targets" and others of the same size, each of all examples end to end. lengths: int64 [B], how
    much of these is of each. width: of a batch's rows. some: bool [B], which examples there are; of the others there is
    nothing. first, last: tokens around what "tokens" has, or around "targets" where a decoder reads `start` and then
    its targets (teacher forcing).
    """

    arrays: Batch
    lengths: np.ndarray
    width: int
    some: np.ndarray
    first: Token = None
    last: Token = None
    start: Token = None


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
    rows = int(row[-1]) + 1 if len(row) else 0
    begins = row.searchsorted(np.arange(rows + 1))  # numbers of the rows' first examples
    # The rows are examples and gaps: one behind the last example of each.
    gaps = begins[1:] + np.arange(rows)
    number = np.arange(len(row)) - begins[row]
    pieces = put_among(number.astype(np.int32), gaps, PADDING)
    batch: Batch = {}
    for prefix, side in examples.items():
        flat = _flat_rows(side, pieces, gaps, pad)
        batch |= {prefix + name: values.reshape(rows, side.width) for name, values in flat.items()}
    return batch


def _flat_rows(side: Side, pieces: np.ndarray, gaps: np.ndarray, pad: int) -> Batch:
    """As in_rows, of one side, the rows end to end. pieces: the segments of examples and gaps."""
    before, behind = (_given(token, side.some) for token in (side.first, side.last))
    lengths = side.lengths + before + behind
    examples = np.flatnonzero(pieces != PADDING)
    sizes = np.zeros(len(pieces), np.int64)
    sizes[examples] = lengths
    filled = sizes.cumsum()[gaps]
    filled[1:] -= filled[:-1].copy()
    sizes[gaps] = side.width - filled
    place = sizes.cumsum() - sizes
    segments = pieces.repeat(sizes)
    inside = segments != PADDING
    positions = np.arange(len(inside), dtype=np.int32) - place.astype(np.int32).repeat(sizes)
    flat = {"segments": segments, "positions": np.where(inside, positions, 0).astype(np.int64)}

    begin = place[examples]
    first, last = begin[before], (begin + lengths - 1)[behind]
    inside[first] = inside[last] = False
    outside = ~inside
    for name, values in side.arrays.items():
        fill = FILL.get(name, 0)
        flat[name] = np.empty(len(inside), values.dtype)
        flat[name][inside] = values
        np.copyto(flat[name], pad if fill is None else fill, where=outside)
    ended = flat["tokens" if side.start is None else "targets"]
    ended[first], ended[last] = _of(side.first, before), _of(side.last, behind)
    if side.start is not None:
        tokens = flat["tokens"] = np.empty_like(ended)
        tokens[1:] = ended[:-1]
        np.copyto(tokens, pad, where=segments == PADDING)
        some = _given(side.start, side.some)
        tokens[begin[some]] = _of(side.start, some)
    return flat


def _given(token: Token, some: np.ndarray) -> np.ndarray:
    """bool [B]: the examples that have it."""
    if token is None:
        return np.zeros_like(some)
    return some & (token >= 0)


def _of(token: Token, which: np.ndarray) -> int | np.ndarray:
    """The tokens of these examples."""
    return token[which] if isinstance(token, np.ndarray) else token or 0


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
        lengths = inside.sum(axis=1)
        found[prefix] = Side(arrays, lengths, inside.shape[1], lengths > 0)
    return found
