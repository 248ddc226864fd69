"""Keys and values of the tokens that a decoder has read, so that the next token is read alone."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.config.model import ModelConfig


class LayerCache:
    """Keys and values of one layer, [B, length, key heads, channels] each, already turned by their positions.

    window: a query of this layer sees so many tokens before it; older ones are dropped. source: keys and values of
    the encoder's output, which are computed once.
    """

    def __init__(self, window: int | None = None) -> None:
        self.window, self.length = window, 0
        self.stored: Tensor | None = None  # [2, B, capacity, key heads, channels]; doubled when it is full
        self.source: tuple[Tensor, Tensor] | None = None

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the keys and values of new tokens; returns all that these tokens' queries may see."""
        new = torch.stack((key, value))
        kept = seen_before(self.length, self.window)
        total = kept + new.shape[2]
        old = new[:, :, :0] if self.stored is None else self.stored[:, :, self.length - kept : self.length]
        if self.stored is None or total > self.stored.shape[2]:
            self.stored = new.new_empty((*new.shape[:2], 2 * total, *new.shape[3:]))
            self.stored[:, :, :kept] = old
        elif kept < self.length:
            self.stored[:, :, :kept] = old.clone()
        self.stored[:, :, kept:total] = new
        self.length = total
        return self.stored[0, :, :total], self.stored[1, :, :total]

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the batch, in this order; rows may repeat."""
        if self.stored is not None:
            self.stored = self.stored[:, rows]
        if self.source is not None:
            self.source = self.source[0][rows], self.source[1][rows]


def seen_before(length: int, window: int | None) -> int:
    """How many of `length` earlier tokens the next one may see."""
    return length if window is None else min(length, window)


class Cache:
    """The caches of a decoder's layers, and the segments [B, length] of all tokens read, if they were given."""

    def __init__(self, config: ModelConfig, depth: int) -> None:
        self.layers = [LayerCache(config.window if config.local(layer) else None) for layer in range(depth)]
        self.length = 0
        self.segments: Tensor | None = None

    def read(self, length: int, segments: Tensor | None) -> None:
        """Note that `length` more tokens are read now."""
        self.length += length
        if segments is not None:
            self.segments = segments if self.segments is None else torch.cat((self.segments, segments), dim=1)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the batch, in this order; rows may repeat."""
        for layer in self.layers:
            layer.select(rows)
        if self.segments is not None:
            self.segments = self.segments[rows]
