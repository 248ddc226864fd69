"""Next-fit packing: documents in their order, side by side in a sample; the last one is cut where the sample is full.

So nothing is left out, and a sample has no gap that one more token could fill. The plan takes one pass over the
documents' lengths; after it a sample is found at once.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from trainer.data.kept_packing import kept
from trainer.data.layouts import ChunkBatch, StretchLayout
from trainer.data.packing import Packing
from trainer.data.shards import TokenStream

RULE = 1  # number of the rule by which documents are packed; a packing that was kept is of this one


class Cuts(NamedTuple):
    """Pieces of documents, in their order: int64 [pieces] each.

    document: whose; begin: tokens of its text before the piece; size: tokens of the piece; context: how many of them,
    its first, an earlier piece of the document has too; sample: where it lies.
    """

    document: np.ndarray
    begin: np.ndarray
    size: np.ndarray
    context: np.ndarray
    sample: np.ndarray


class Cutting(StretchLayout):
    """Chunks as they were cut, without <s> and </s>, padded behind."""

    def __init__(self, stream: TokenStream, length: int, pad: int, cuts: Cuts) -> None:
        super().__init__(stream, length, length, pad)
        self.cuts = cuts

    def count(self, whole: bool) -> int:
        return len(self.cuts.size)

    def document(self, indices: np.ndarray) -> np.ndarray:
        return self.cuts.document[self._there(indices)]

    def offset(self, indices: np.ndarray) -> np.ndarray:
        return self.cuts.begin[self._there(indices)]

    def stretches(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if not self.count(whole=True):
            none = np.zeros(len(indices), np.int64)
            return none, none, none
        there, inside = self._there(indices), indices < self.count(whole=True)
        begin = self.stream.starts[self.cuts.document[there]] + 1 + self.cuts.begin[there]
        return begin, np.where(inside, self.cuts.size[there], 0), np.where(inside, self.cuts.context[there], 0)

    def cut(self, indices: np.ndarray) -> ChunkBatch:
        begin, lengths, context = self.stretches(indices)
        tokens = np.empty((len(indices), self.length), np.int64)
        self.stream.read(begin, tokens)
        return replace(self._unit(tokens, lengths), context=context)

    def _there(self, indices: np.ndarray) -> np.ndarray:
        return np.minimum(indices, self.count(whole=True) - 1)


class NextFit(Packing):
    """The documents of a stream in samples of `capacity` tokens.

    packed_lengths: int64 [length + 1], see `Packed.packed_lengths`. overlap: tokens that a piece which goes on with a
    document reads once more, as far as it has them.
    """

    def __init__(
        self, stream: TokenStream, packed_lengths: np.ndarray, capacity: int, overlap: int, length: int, pad: int
    ) -> None:
        texts = np.diff(stream.starts, append=len(stream)) - 2
        inputs = np.array([RULE, capacity, overlap]), texts, packed_lengths
        cuts = Cuts(*kept(stream.folder, inputs, lambda: np.stack(next_fit(texts, packed_lengths, capacity, overlap))))
        super().__init__(cuts.sample, packed_lengths[cuts.size], capacity)
        self.pieces = Cutting(stream, length, pad, cuts)


class Run(NamedTuple):
    """Several cuts at once: of so many documents whole (size 0), or of one document; samples too may go up by one."""

    many: int
    document: int
    begin: int
    size: int
    context: int
    sample: int
    next_document: int = 0
    next_begin: int = 0
    next_sample: int = 0


def next_fit(texts: np.ndarray, packed_lengths: np.ndarray, capacity: int, overlap: int = 0) -> Cuts:
    """texts: int64 [documents], tokens of each; packed_lengths: ascending, from 0 on.

    Whole documents are placed a sample at a time, and the stretches of a long one all at once.
    """
    fits = (packed_lengths.searchsorted(np.arange(capacity + 1), side="right") - 1).tolist()  # of so many free tokens
    full = fits[capacity]
    numbers = np.flatnonzero(texts > 0)
    lengths = texts[numbers].astype(np.int64)
    sizes = np.where(lengths > full, capacity + 1, packed_lengths[np.minimum(lengths, full)])
    before = array("q", np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64).tobytes())
    text, packed, runs = array("q", lengths.tobytes()), packed_lengths.tolist(), array("q")

    document = at = sample = 0  # the document that comes next, its tokens that are placed, and where it goes
    free = capacity
    while document < len(text):
        if not at:  # whole documents
            most = min(len(text), document + free)
            stop = bisect_right(before, before[document] + free, document, most + 1) - 1
            if stop > document:
                runs.extend(Run(stop - document, document, 0, 0, 0, sample, next_document=1))
                free -= before[stop] - before[document]
                document = stop
                continue
        context = min(overlap, at)
        taken = min(text[document] - at, fits[free] - context)
        if taken >= 1:
            runs.extend(Run(1, document, at - context, taken + context, context, sample))
            at += taken
            if at == text[document]:
                free -= packed[taken + context]
                document, at = document + 1, 0
                continue
        sample, free = sample + 1, capacity
        step = full - overlap
        if at and at >= overlap and (more := (text[document] - at - 1) // step) > 0:  # each fills a sample
            runs.extend(Run(more, document, at - overlap, full, overlap, sample, next_begin=step, next_sample=1))
            at, sample = at + more * step, sample + more
    return _expanded(np.array(runs, np.int64).reshape(-1, len(Run._fields)), numbers, lengths)


def _expanded(runs: np.ndarray, numbers: np.ndarray, lengths: np.ndarray) -> Cuts:
    """runs: int64 [runs, fields]; numbers and lengths: of the documents that they count."""
    of: Any = Run(*runs.T)
    within = np.arange(of.many.sum()) - (of.many.cumsum() - of.many).repeat(of.many)
    document, begin, sample = (
        first.repeat(of.many) + within * step.repeat(of.many)
        for first, step in ((of.document, of.next_document), (of.begin, of.next_begin), (of.sample, of.next_sample))
    )
    size = of.size.repeat(of.many)
    size = np.where(size > 0, size, lengths[document])
    return Cuts(numbers[document], begin, size, of.context.repeat(of.many), sample)
