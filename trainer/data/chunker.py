"""One split of the text, cut into chunks of one sequence length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.config import Config
from trainer.data.best_fit import BestFit
from trainer.data.languages import Languages
from trainer.data.layouts import ChunkBatch, ChunkLayout, Pieces, TextLayout, chunk_layout
from trainer.data.next_fit import NextFit
from trainer.data.order import Order
from trainer.data.packing import Packing
from trainer.data.pair_layout import Pairs
from trainer.data.shards import TokenStream
from trainer.objectives import Objective, Packed, Texts, Window
from trainer.objectives.noise import below, rows
from trainer.objectives.ranges import numbers
from trainer.utils.errors import UserError

TRIES = 10  # draws of a partner before one of the same document is accepted


@dataclass(frozen=True)
class SourceChunks:
    """The chunks of one source, in an order of their own. first: index of its first chunk over all sources."""

    chunks: ChunkLayout
    n: int
    order: Order | None
    first: int
    documents: int  # number of its first document among all of the split
    fit: Packing | None = None  # which chunks share a sample, if several do

    def indices(self, start: int, stop: int) -> np.ndarray:
        """int64: the chunks, or groups of chunks, of samples start..stop-1 of this source."""
        return self.order(start, stop) if self.order else np.arange(start, stop)


class Chunker:
    """Cuts the sources of a split into chunks of data.sequence_length, shuffled anew every epoch or in order."""

    def __init__(
        self,
        config: Config,
        objective: Objective,
        streams: Mapping[str, TokenStream],
        pad: int,
        languages: Languages | None = None,
        shuffled: int | None = None,
    ) -> None:
        """streams: of the sources, by their keys. shuffled: number of the chunker among the run's; None: read in order.

        Raises UserError where a source is too short for one sample, or all of its documents are.
        """
        self.sequence_length = config.data.sequence_length
        self.config, self.objective, self.pad, self.languages = config, objective, pad, languages
        self.parts: list[SourceChunks] = []
        self.n = 0
        for number, (name, stream) in enumerate(streams.items()):
            # Sources of equal size shall not be read in the same order, nor the same source at another length.
            order = None if shuffled is None else shuffled << 32 | number
            part = self._part(name, stream, order)
            self.parts.append(part)
            self.n += part.n

    def _part(self, name: str, stream: TokenStream, order: int | None) -> SourceChunks:
        config, stride, length = self.config, self.objective.stride, self.objective.length
        # Held-out text is always read document by document, so that its loss can be compared.
        boundaries = config.data.boundaries or order is None
        first = sum(part.chunks.count(whole=order is not None) for part in self.parts)
        cut, fit = self._packed(stream)
        if cut is None:
            cut = self._pairs(stream)
        if cut is None:
            cut = chunk_layout(self.objective.layout, stream, stride, length, self.pad, boundaries)
        n = cut.count(whole=order is not None) if fit is None else fit.samples
        if order is None:
            return SourceChunks(cut, max(1, n), None, first, stream.first_document, fit)
        if n < 1:
            raise UserError(
                f"{name}: the training text has {len(stream):,} tokens, one sample needs {length:,}; "
                f"give more text or lower data.sequence_length={config.data.sequence_length}"
            )
        if isinstance(cut, Pieces) and fit is None and cut.longest < length:
            most = cut.longest + config.data.sequence_length - length
            packed = ", or set data.packing=packed" if config.data.packing == "padded" else ""
            raise UserError(
                f"{name}: the longest document has {cut.longest:,} tokens, so that every sample of "
                f"data.sequence_length={config.data.sequence_length} would be padded; lower it to {most}{packed}"
            )
        return SourceChunks(cut, n, Order(n, config.seed, ("order", order)), first, stream.first_document, fit)

    def _packed(self, stream: TokenStream) -> tuple[ChunkLayout | None, Packing | None]:
        """The pieces of a stream and how they share samples, where they do."""
        objective, capacity = self.objective, self.config.data.sequence_length
        if not isinstance(objective, Packed):
            return None, None
        sizes, stride, length = objective.packed_lengths(capacity), objective.stride, objective.length
        if objective.layout == "next_fit":
            after = NextFit(stream, sizes, capacity, length - stride, length, self.pad)
            return after.pieces, after
        pieces = self._pairs(stream) or Pieces(stream, stride, length, self.pad, edges=False)
        return pieces, BestFit(pieces, sizes, capacity)

    def _pairs(self, stream: TokenStream) -> Pairs | None:
        """The texts of a stream, both sides of a pair in one chunk, where the objective reads them so."""
        languages, first = self.languages, stream.first_document
        if languages is None or not languages.pairs:
            return None
        second = languages.second(first, first + len(stream.starts))
        return Pairs(stream, second, self.objective.length, self.pad, languages.between)

    def mixed(self, index: np.ndarray, source: np.ndarray, number: np.ndarray) -> Window | Texts:
        """Samples `index` of the run: of these sources, each the sample of this number, consecutive within a source."""
        found = [np.flatnonzero(source == which) for which in range(len(self.parts))]
        pieces = [
            self.read(part, index[mine], int(number[mine[0]]))
            for part, mine in zip(self.parts, found, strict=True)
            if len(mine)
        ]
        rows = [mine for mine in found if len(mine)]
        return pieces[0] if len(pieces) == 1 else joined(pieces, rows)

    def where(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """For chunks of these indices among all: (document of the split, its tokens before the chunk)."""
        found = []
        for place in indices.tolist():
            part = next(part for part in reversed(self.parts) if part.first <= place)
            within = np.array([place - part.first])
            document = part.documents + int(part.chunks.document(within)[0])
            found.append((document, int(part.chunks.offset(within)[0])))
        return found

    def read(self, part: SourceChunks, index: np.ndarray, first: int) -> Window | Texts:
        """Samples `index` of the run, which are samples first, first + 1 ... of this source: a row for each, or texts
        that share them."""
        place = part.indices(first, first + len(index))
        epoch = np.arange(first, first + len(index)) // part.n
        if part.fit is not None:
            return self._texts(part, part.fit, place, index, epoch)
        cut = part.chunks.cut(place)
        partner = other = None
        if self.objective.partner:
            partner, other = self._partners(part, place, index)
        return Window(
            *(cut.tokens, cut.segments, cut.positions, index, part.first + place, epoch),
            *(self.config.seed, partner, other, cut.begins),
            self._language(part, place),
        )

    def _texts(
        self, part: SourceChunks, fit: Packing, place: np.ndarray, index: np.ndarray, epoch: np.ndarray
    ) -> Texts:
        assert isinstance(part.chunks, TextLayout)
        place, owner = fit.members(place)
        within = np.arange(len(owner)) - np.searchsorted(owner, owner)
        tokens, lengths, context = part.chunks.texts(place)
        return Texts(
            tokens,
            lengths,
            index[owner] * self.objective.length + within,  # noise of its own for each
            part.first + place,
            epoch[owner],
            self.config.seed,
            owner,
            context,
            self._language(part, place),
        )

    def _language(self, part: SourceChunks, place: np.ndarray) -> np.ndarray | None:
        return None if self.languages is None else self.languages.of(part.chunks.document(place) + part.documents)

    def _partners(self, part: SourceChunks, place: np.ndarray, index: np.ndarray) -> tuple[Window, np.ndarray]:
        """A random chunk of another document of the same source for each, as far as ten draws find one."""
        seed = self.config.seed
        draws = below(rows(seed, "partner", index, TRIES), part.n)
        other = part.chunks.document(draws.ravel()).reshape(draws.shape) != part.chunks.document(place)[:, None]
        chosen = draws[np.arange(len(draws)), np.argmax(other, axis=1)]
        cut: ChunkBatch = part.chunks.cut(chosen)
        window = Window(cut.tokens, cut.segments, cut.positions, index, part.first + chosen, index * 0, seed)
        return window, other.any(axis=1)


def joined(pieces: Sequence[Window | Texts], rows: list[np.ndarray]) -> Window | Texts:
    """The samples of several sources as one. rows: of every source, which of the samples are its own."""
    if isinstance(pieces[0], Texts):
        return _joined_texts([one for one in pieces if isinstance(one, Texts)], rows)
    return _joined_windows([one for one in pieces if isinstance(one, Window)], np.argsort(np.concatenate(rows)))


def _joined_windows(pieces: list[Window], order: np.ndarray) -> Window:
    """The rows of several windows in this order."""

    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(piece, name) for piece in pieces])[order]

    partners = [window.partner for window in pieces if window.partner is not None]
    return Window(
        *(join("tokens"), join("segments"), join("positions"), join("index"), join("place"), join("epoch")),
        pieces[0].seed,
        _joined_windows(partners, order) if partners else None,
        None if pieces[0].other_document is None else join("other_document"),
        language=None if pieces[0].language is None else join("language"),
    )


def _joined_texts(pieces: list[Texts], rows: list[np.ndarray]) -> Texts:
    """In the order of the samples that own them."""
    owner = np.concatenate([mine[one.owner] for one, mine in zip(pieces, rows, strict=True)])
    order = np.argsort(owner, kind="stable")

    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in pieces])[order]

    lengths = np.concatenate([one.lengths for one in pieces])
    ends = lengths.cumsum()
    tokens = np.concatenate([one.tokens for one in pieces])[numbers((ends - lengths)[order], ends[order])]
    return Texts(
        *(tokens, lengths[order], join("index"), join("place"), join("epoch"), pieces[0].seed, owner[order]),
        context=None if pieces[0].context is None else join("context"),
        language=None if pieces[0].language is None else join("language"),
    )
