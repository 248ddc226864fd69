"""Predict each token from those behind it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from trainer.config import Config
from trainer.objectives.base import PADDING, Batch, Layout, Window, stream_layout
from trainer.objectives.causal import Causal
from trainer.objectives.noise import uniform
from trainer.objectives.vocabulary import Vocabulary


class Reverse(Causal):
    """Causal language modelling of documents whose tokens were turned round, each with probability `share`."""

    def __init__(self, sequence_length: int, *, layout: Layout, share: float) -> None:
        super().__init__(sequence_length, layout=layout)
        self.share = share

    def apply(self, window: Window) -> Batch:
        """As Causal. All randomness comes from the window, so that a resumed run reads the same."""
        tokens = window.tokens.copy()
        chances = uniform(window.bits(self.length))  # by the document's number in the window
        for row, segments, chance in zip(tokens, window.segments, chances, strict=True):
            edges = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(row)]
            for number, (begin, end) in enumerate(pairwise(edges)):
                if segments[begin] != PADDING and chance[number] < self.share:
                    row[begin:end] = row[begin:end][::-1].copy()
        return super().apply(replace(window, tokens=tokens))


def reverse(config: Config, vocabulary: Vocabulary) -> Reverse:
    share = config.objective.reversed_share
    return Reverse(config.data.sequence_length, layout=stream_layout(config), share=share)
