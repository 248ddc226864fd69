"""The interface of objectives: functions from windows of text to batches; and what several of them use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from trainer.config import Config
from trainer.objectives import noise
from trainer.objectives.ranges import numbers
from trainer.utils.targets import NOT_A_TARGET

Batch = dict[str, np.ndarray]
PADDING, NO_TARGET = -1, NOT_A_TARGET
# How windows are cut out of a corpus, see trainer.data.layouts.
Layout = Literal["stream", "documents", "text", "pieces", "best_fit", "next_fit"]
TEXT_LAYOUTS: dict[str, Layout] = {"packed": "next_fit", "padded": "pieces", "best_fit": "best_fit"}  # by data.packing
SHARED: tuple[Layout, ...] = ("best_fit", "next_fit")  # several examples in a sample


@dataclass(frozen=True)
class Window:
    """B stretches of L tokens of the corpus, the shorter ones padded behind.

    tokens: int64 [B, L]; segments: int32 [B, L], the document's number within the window, -1 for padding;
    positions: int64 [B, L], restarting at every document; index: int64 [B], the samples' numbers, which key the noise;
    place: int64 [B], where in the corpus they lie; epoch: int64 [B]; partner: other stretches, of other documents
    where there are several, for objectives that ask for them.
    """

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    index: np.ndarray
    place: np.ndarray
    epoch: np.ndarray
    seed: int
    partner: Window | None = None
    other_document: np.ndarray | None = None  # bool [B]: the partner is of another document
    begins: tuple[np.ndarray, np.ndarray] | None = None  # where documents begin inside the windows, if that is known
    language: np.ndarray | None = None  # int64 [B], the language token of each, for objectives that ask for it
    owner: np.ndarray | None = None  # int64 [B], ascending: rows of one number share a sample
    context: np.ndarray | None = None  # int64 [B]: first tokens that the document's stretch before has too

    def inner_begins(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, columns) of the tokens, but a window's first, that begin a document."""
        if self.begins is not None:
            return self.begins
        several = np.flatnonzero(self.segments[:, -1])
        row, column = np.nonzero(np.diff(self.segments[several], axis=1) > 0)
        return several[row], column + 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 [B]: tokens before the padding."""
        if self.segments[:, -1].min(initial=0) != PADDING:
            return np.full(*self.segments.shape)
        return (self.segments != PADDING).sum(axis=1)

    def bits(self, count: int, part: int = 0) -> np.ndarray:
        """uint64 [B, count] of each sample's own noise, or of the part of that number."""
        return noise.rows(self.seed, "noise", self.index, count, part)

    @cached_property
    def texts(self) -> Texts:
        """The rows' tokens without padding."""
        rows, width = self.tokens.shape
        first = width * np.arange(rows)
        tokens = self.tokens.ravel()
        if self.lengths.sum() < tokens.size:
            tokens = tokens.take(numbers(first, first + self.lengths))
        facts = self.index, self.place, self.epoch, self.seed, self.owner, self.context, self.language
        return Texts(tokens, self.lengths, *facts)


@dataclass(frozen=True)
class Texts:
    """B stretches of the corpus, each of one document, end to end: the rows of a Window without padding.

    tokens: int64 [sum of lengths]; lengths: int64 [B]; all others as in Window.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    index: np.ndarray
    place: np.ndarray
    epoch: np.ndarray
    seed: int
    owner: np.ndarray | None = None
    context: np.ndarray | None = None
    language: np.ndarray | None = None

    def draw(self, counts: np.ndarray, part: int = 0, first: int = 0) -> np.ndarray:
        """uint64 [sum of counts]: of each sample's noise so many numbers from that of number `first` on, end to end."""
        return noise.stretches(self.seed, "noise", self.index, counts, part, first)

    def window(self, length: int, pad: int) -> Window:
        """In rows of `length` tokens."""
        inside = np.arange(length) < self.lengths[:, None]
        tokens = np.full(inside.shape, pad, np.int64)
        tokens[inside] = self.tokens
        segments = np.where(inside, 0, PADDING).astype(np.int32)
        return Window(
            *(tokens, segments, np.where(inside, np.arange(length), 0), self.index, self.place, self.epoch),
            self.seed,
            language=self.language,
            owner=self.owner,
            context=self.context,
        )


class Objective(Protocol):
    """How text becomes a training example."""

    layout: Layout
    stride: int  # tokens from one sample's beginning to the next one's
    length: int  # tokens a window needs, at least `stride`
    partner: bool  # whether it wants a second window for each

    def apply(self, window: Window) -> Batch:
        """The batch of these windows; pure, and each row depends on its own window and index alone."""
        ...


def text_layout(config: Config) -> Layout:
    """Of objectives that add their special tokens to stretches of text."""
    return TEXT_LAYOUTS[config.data.packing] if config.data.boundaries else "text"


def stream_layout(config: Config) -> Layout:
    """Of objectives that read the corpus with the special tokens that are in it."""
    return "documents" if config.data.packing == "padded" else "stream"


def add_special_tokens(
    tokens: np.ndarray, lengths: np.ndarray, first: int, last: int, pad: int, some: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with `first` before their tokens and `last` behind them: int64 [B, L + 2], padded, and their lengths [B].

    some: bool [B], the rows that get the two tokens, by default those that have tokens; the others stay empty.
    """
    count, length = tokens.shape
    framed = np.full((count, length + 2), pad, np.int64)
    framed[:, 1:-1] = tokens
    _fill_behind(framed, lengths + 1, pad)
    some = lengths > 0 if some is None else some
    framed[some, 0] = first
    framed[some, lengths[some] + 1] = last
    return framed, np.where(some, lengths + 2, 0)


def as_one_document(tokens: np.ndarray, lengths: np.ndarray, prefix: str = "") -> Batch:
    """tokens, segments (0, padding -1) and positions of rows that are one document each."""
    segments = np.zeros(tokens.shape, np.int32)
    positions = np.empty(tokens.shape, np.int64)
    positions[:] = np.arange(tokens.shape[1])
    _fill_behind(segments, lengths, PADDING)
    _fill_behind(positions, lengths, 0)
    return {f"{prefix}tokens": tokens, f"{prefix}segments": segments, f"{prefix}positions": positions}


def _fill_behind(rows: np.ndarray, lengths: np.ndarray, value: int) -> None:
    """Fill what lies behind each row's length: slice by slice, which is faster than by a table of truth values."""
    width = rows.shape[1]
    for row, length in enumerate(lengths.tolist()):
        if length < width:
            rows[row, length:] = value
