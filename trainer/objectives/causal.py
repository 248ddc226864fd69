"""Objectives of decoders: each token from those before it, from a prefix, or from both sides of a gap."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from trainer.config import Config
from trainer.objectives.base import NO_TARGET, PADDING, Batch, Layout, Window, stream_layout
from trainer.objectives.noise import below, uniform
from trainer.objectives.vocabulary import Vocabulary


class Causal:
    """Predict each token from those before it (Radford et al. 2018). Windows hold one token more than a sample."""

    partner = False

    def __init__(self, sequence_length: int, *, layout: Layout = "stream") -> None:
        self.layout = layout
        self.stride = sequence_length
        self.length = sequence_length + 1

    def apply(self, window: Window) -> Batch:
        """tokens, targets, segments, positions: [B, S] from windows of S + 1; no target is of another document."""
        targets = window.tokens[:, 1:].copy()
        row, column = window.inner_begins()
        targets[row, column - 1] = NO_TARGET
        if window.segments[:, -1].min(initial=0) == PADDING:
            targets[window.segments[:, 1:] == PADDING] = NO_TARGET
        # Views, not copies: no other batch has this window.
        return {
            "tokens": window.tokens[:, :-1],
            "targets": targets,
            "segments": window.segments[:, :-1],
            "positions": window.positions[:, :-1],
        }


def causal(config: Config, vocabulary: Vocabulary) -> Causal:
    return Causal(config.data.sequence_length, layout=stream_layout(config))


class PrefixLM(Causal):
    """A prefix of each document is read in both directions, the rest is predicted (Raffel et al. 2020, section 3.2).

    The prefix of a document that has n tokens in the window is uniform in 1..n-1. Adds order: int32 [B, S], a token
    sees those of its document whose order is at most its own; 0 throughout the prefix, the position behind it.
    """

    def apply(self, window: Window) -> Batch:
        batch = super().apply(window)
        rows, length = window.tokens.shape
        segments = np.where(window.segments == PADDING, length, window.segments)  # a place of its own
        flat = segments + np.arange(rows)[:, None] * (length + 1)
        sizes = np.bincount(flat.ravel(), minlength=rows * (length + 1)).reshape(rows, length + 1)
        prefix = 1 + below(window.bits(length + 1), np.maximum(sizes - 1, 0))
        inside = window.positions < np.take_along_axis(prefix, segments, axis=1)
        batch["targets"][inside[:, 1:]] = NO_TARGET
        batch["order"] = np.where(inside, 0, window.positions)[:, :-1].astype(np.int32)
        return batch


def prefix_lm(config: Config, vocabulary: Vocabulary) -> PrefixLM:
    return PrefixLM(config.data.sequence_length, layout=stream_layout(config))


class FillInTheMiddle(Causal):
    """Move the middle of a document behind its end (Bavarian et al. 2022, arXiv 2207.14255).

    With probability `rate` a document's stretch becomes, with equal chances for its two cuts between tokens,
        <fim_prefix> prefix <fim_suffix> suffix <fim_middle> middle          (PSM), or, with probability `spm_rate`,
        <fim_prefix> <fim_suffix> suffix <fim_middle> prefix middle          (SPM).
    Three tokens are added, so the last three of the stretch are left out before it is cut, and the sample keeps its
    length. <s> and </s> stay where they are.
    """

    def __init__(
        self, sequence_length: int, vocabulary: Vocabulary, *, layout: Layout = "stream", rate: float, spm_rate: float
    ) -> None:
        super().__init__(sequence_length, layout=layout)
        self.rate, self.spm_rate = rate, spm_rate
        self.edges = [vocabulary.id(piece, "fim") for piece in ("<s>", "</s>")]
        self.prefix, self.suffix, self.middle = (
            vocabulary.id(f"<fim_{part}>", "fim") for part in ("prefix", "suffix", "middle")
        )

    def apply(self, window: Window) -> Batch:
        tokens = window.tokens.copy()
        chances = uniform(window.bits(4 * self.length)).reshape(len(tokens), self.length, 4)
        for row, segments, chance in zip(tokens, window.segments, chances, strict=True):
            edges = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(row)]
            for number, (begin, end) in enumerate(pairwise(edges)):
                if segments[begin] != PADDING and chance[number, 0] < self.rate:
                    begin += row[begin] == self.edges[0]
                    end -= row[end - 1] == self.edges[1]
                    row[begin:end] = self.rearrange(row[begin:end], *chance[number, 1:])
        return super().apply(replace(window, tokens=tokens))

    def rearrange(self, text: np.ndarray, mode: float, one: float, other: float) -> np.ndarray:
        """The stretch, rearranged, of the same length; as it was when it is shorter than six tokens."""
        if len(text) < 6:
            return text
        kept = text[:-3]
        cut, stop = sorted((int(one * (len(kept) + 1)), int(other * (len(kept) + 1))))
        prefix, middle, suffix = kept[:cut], kept[cut:stop], kept[stop:]
        if mode < self.spm_rate:
            parts: list[Any] = [[self.prefix, self.suffix], suffix, [self.middle], prefix, middle]
        else:
            parts = [[self.prefix], prefix, [self.suffix], suffix, [self.middle], middle]
        return np.concatenate(parts)


def fill_in_the_middle(config: Config, vocabulary: Vocabulary) -> FillInTheMiddle:
    keys, length = config.objective, config.data.sequence_length
    return FillInTheMiddle(length, vocabulary, layout=stream_layout(config), rate=keys.rate, spm_rate=keys.spm_rate)
