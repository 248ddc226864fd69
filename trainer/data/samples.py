"""Sample number i of a run: a pure function of (prepared corpus, science config, i)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainer.config import Config
from trainer.data.layouts import windows
from trainer.data.order import Order
from trainer.data.shards import Prepared, TokenStream
from trainer.data.tokenizer import Tokenizer
from trainer.errors import UserError
from trainer.objectives import NO_TARGET, PADDING, Batch, Window, objective
from trainer.objectives.noise import below, rows

TRIES = 10  # draws of a partner before one of the same document is accepted


class Samples:
    """Windows of a split's text, as training examples.

    The training split is read in a new order every epoch; what is left behind its last whole sample is not read. The
    held-out split is read in order, its last sample padded, and every sample past its end is all padding.
    """

    def __init__(self, prepared: Prepared, config: Config, split: Literal["train", "held_out"]) -> None:
        self.pad, self.seed = prepared.pad, config.seed
        self.objective = objective(config, Tokenizer(prepared.tokenizer_file).table())
        stride, length = self.objective.stride, self.objective.length
        self.windows = windows(self.objective.layout, TokenStream(prepared, split), stride, length, self.pad)
        self.n = self.windows.count(whole=split == "train")
        if split == "train" and self.n < 1:
            raise UserError(
                f"data: the training text has {prepared.train.tokens:,} tokens, one sample needs {length:,}; "
                f"give more text or lower data.sequence_length={config.data.sequence_length}"
            )
        self.n = max(1, self.n)
        self.order = Order(self.n, config.seed) if split == "train" else None

    def __len__(self) -> int:
        """Samples of one epoch."""
        return self.n

    def batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1 of the endless run; the first axis of every array is stop - start."""
        return self.objective.apply(self.window(start, stop))

    def window(self, start: int, stop: int) -> Window:
        """The text of these samples, before the objective."""
        index = np.arange(start, stop)
        place = self.order(start, stop) if self.order else index
        cut = self.windows.cut(place)
        partner = other = None
        if self.objective.partner:
            partner, other = self._partners(place, index)
        epoch = index // self.n
        return Window(cut.tokens, cut.segments, cut.positions, index, place, epoch, self.seed, partner, other)

    def _partners(self, place: np.ndarray, index: np.ndarray) -> tuple[Window, np.ndarray]:
        """A random window of another document for each, as far as ten draws find one."""
        draws = below(rows(self.seed, "partner", index, TRIES), self.n)
        other = self.windows.document(draws.ravel()).reshape(draws.shape) != self.windows.document(place)[:, None]
        chosen = draws[np.arange(len(draws)), np.argmax(other, axis=1)]
        cut = self.windows.cut(chosen)
        window = Window(cut.tokens, cut.segments, cut.positions, index, chosen, index * 0, self.seed)
        return window, other.any(axis=1)


def blank(batch: Batch, pad: int) -> Batch:
    """A batch of the same shapes with nothing to learn: padding and no targets."""
    fill = {"tokens": pad, "source_tokens": pad, "segments": PADDING, "source_segments": PADDING}
    fill |= {"targets": NO_TARGET, "sentence_label": NO_TARGET}
    return {name: np.full_like(array, fill.get(name, 0)) for name, array in batch.items()}
