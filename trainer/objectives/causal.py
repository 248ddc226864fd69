"""Causal language modelling: predict each token from those before it (Radford et al. 2018)."""

from __future__ import annotations

import numpy as np

from trainer.objectives.base import NO_TARGET, PADDING, Batch, Window


class Causal:
    families: tuple[str, ...] = ("decoder",)

    def __init__(self, sequence_length: int) -> None:
        self.stride = sequence_length
        self.length = sequence_length + 1

    def apply(self, window: Window) -> Batch:
        """tokens, targets, segments, positions: [B, S] from windows of S + 1; no target crosses into another document."""
        segments = window.segments
        targets = window.tokens[:, 1:].copy()
        targets[(segments[:, 1:] != segments[:, :-1]) | (segments[:, 1:] == PADDING)] = NO_TARGET
        return {
            "tokens": np.ascontiguousarray(window.tokens[:, :-1]),
            "targets": targets,
            "segments": np.ascontiguousarray(segments[:, :-1]),
            "positions": np.ascontiguousarray(window.positions[:, :-1]),
        }
