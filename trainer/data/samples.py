"""Sample number i of a run: a pure function of (prepared corpus, science config, i)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainer.config import Config
from trainer.data.order import Order
from trainer.data.shards import Prepared, TokenStream
from trainer.errors import UserError
from trainer.objectives import NO_TARGET, PADDING, Batch, Window, objective


class Samples:
    """Windows of a split's token stream, as training examples.

    Sample j of an epoch begins at token j * stride. The training split is read in a new order every epoch; what is left
    behind its last whole sample is not read. The held-out split is read in order, its last sample padded, and every sample
    past its end is all padding.
    """

    def __init__(self, prepared: Prepared, config: Config, split: Literal["train", "held_out"]) -> None:
        self.pad = prepared.pad
        self.objective = objective(config)
        self.stream = TokenStream(prepared, split)
        stride, length = self.objective.stride, self.objective.length
        overlap = length - stride
        if split == "train":
            self.n = (len(self.stream) - overlap) // stride
            if self.n < 1:
                raise UserError(
                    f"data: the training text has {len(self.stream):,} tokens, one sample needs {length:,}; "
                    f"give more text or lower data.sequence_length={config.data.sequence_length}"
                )
            self.order: Order | None = Order(self.n, config.seed)
        else:
            self.n = max(1, -(-(len(self.stream) - overlap) // stride))
            self.order = None

    def __len__(self) -> int:
        """Samples of one epoch."""
        return self.n

    def batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1 of the endless run, each array [stop - start, S]."""
        index = np.arange(start, stop)
        positions = self.order(start, stop) if self.order else index
        return self.objective.apply(self._window(positions * self.objective.stride, index))

    def _window(self, begin: np.ndarray, index: np.ndarray) -> Window:
        rows, length = len(begin), self.objective.length
        tokens = np.empty((rows, length), np.int64)
        self.stream.read(begin, tokens)
        columns = np.arange(length)
        segments = np.zeros((rows, length), np.int32)
        positions = np.broadcast_to(columns, (rows, length)).copy()
        row, column = self.stream.boundaries(begin, length)
        if len(row):
            segments[row, column] = 1
            several = np.unique(row)
            segments[several] = np.cumsum(segments[several], axis=1, dtype=np.int32)
            origin = np.zeros((rows, length), np.int64)
            origin[row, column] = column
            positions[several] -= np.maximum.accumulate(origin[several], axis=1)
        short = begin + length > len(self.stream)
        if short.any():
            outside = (begin[:, None] + columns) >= len(self.stream)
            tokens[outside], segments[outside], positions[outside] = self.pad, PADDING, 0
        return Window(tokens, segments, positions, index)


def blank(batch: Batch, pad: int) -> Batch:
    """A batch of the same shapes with nothing to learn: padding and no targets."""
    fill = {"tokens": pad, "source_tokens": pad, "targets": NO_TARGET, "segments": PADDING, "source_segments": PADDING}
    return {name: np.full_like(array, fill.get(name, 0)) for name, array in batch.items()}
