"""What every objective is: a function from windows of the token stream to a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

Batch = dict[str, np.ndarray]
NO_TARGET = -100
PADDING = -1


@dataclass(frozen=True)
class Window:
    """B stretches of L consecutive tokens, as they lie in the corpus.

    tokens: int64 [B, L]; segments: int32 [B, L], the document's number within the window, -1 for padding;
    positions: int64 [B, L], restarting at every document; index: int64 [B], the samples' numbers, which key the noise.
    """

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    index: np.ndarray


class Objective(Protocol):
    """How text becomes a training example."""

    families: tuple[str, ...]  # the model families it can train
    stride: int  # tokens from one sample's beginning to the next one's
    length: int  # tokens a window needs, at least `stride`

    def apply(self, window: Window) -> Batch:
        """The batch of these windows; pure, and each row depends on its own window and index alone."""
        ...
