"""Sample number i of a run: a pure function of (prepared corpus, science config, i)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainer.config import Config
from trainer.data.layouts import Cut, Windows, windows
from trainer.data.mixture import Mixture
from trainer.data.order import Order
from trainer.data.shards import Prepared, TokenStream
from trainer.data.tokenizer import Tokenizer
from trainer.errors import UserError
from trainer.objectives import NO_TARGET, PADDING, Batch, Window, objective
from trainer.objectives.noise import below, rows

TRIES = 10  # draws of a partner before one of the same document is accepted


@dataclass(frozen=True)
class Part:
    """The windows of one source, in an order of their own. first: the place of its first window among all."""

    windows: Windows
    n: int
    order: Order | None
    first: int
    documents: int  # number of its first document among all of the split

    def places(self, start: int, stop: int) -> np.ndarray:
        """Windows that samples start..stop-1 of this source are."""
        return self.order(start, stop) if self.order else np.arange(start, stop)


class Samples:
    """Windows of a split's text, as training examples.

    The training split is read in a new order every epoch; what is left behind its last whole sample is not read. The
    held-out split is read in order, its last sample padded, and every sample past its end is all padding.
    """

    def __init__(self, prepared: Prepared, config: Config, split: Literal["train", "held_out"]) -> None:
        self.pad, self.seed = prepared.pad, config.seed
        self.objective = objective(config, Tokenizer(prepared.tokenizer_file).table())
        origins = list(prepared.manifest["splits"][split]["origins"])
        mixed = split == "train" and config.data.name == "mixture"
        streams = {
            origin: TokenStream(prepared, split, origin if mixed else None)
            for origin in (origins if mixed else ["all"])
        }
        self.language = Languages(prepared, config, split) if self.objective.languages else None
        self.parts: list[Part] = []
        self.n = 0
        for number, (origin, stream) in enumerate(streams.items()):
            part = self._part(
                config, stream, number if split == "train" else None, f"data.sources.{origin}" if mixed else "data"
            )
            self.parts.append(part)
            self.n += part.n
        self.mixture: Mixture | None = None
        if mixed:
            sizes = {
                origin: (part.n, len(stream))
                for (origin, stream), part in zip(streams.items(), self.parts, strict=True)
            }
            run = config.steps * config.optim.batch_size
            self.mixture = Mixture(config.data, sizes, run, config.data.sequence_length, config.seed)

    def _part(self, config: Config, stream: TokenStream, number: int | None, name: str) -> Part:
        stride, length = self.objective.stride, self.objective.length
        # Held-out text is always read document by document, so that its loss can be compared.
        boundaries = config.data.boundaries or number is None
        cut = windows(self.objective.layout, stream, stride, length, self.pad, boundaries)
        n = cut.count(whole=number is not None)
        if number is None:
            return Part(cut, max(1, n), None, self.n, stream.first_document)
        if n < 1:
            raise UserError(
                f"{name}: the training text has {len(stream):,} tokens, one sample needs {length:,}; "
                f"give more text or lower data.sequence_length={config.data.sequence_length}"
            )
        # Sources of equal size shall not be read in the same order.
        return Part(cut, n, Order(n, config.seed, ("order", number)), self.n, stream.first_document)

    def __len__(self) -> int:
        """Samples of one epoch."""
        return self.n

    def batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1 of the endless run; the first axis of every array is stop - start."""
        return self.objective.apply(self.window(start, stop))

    def window(self, start: int, stop: int) -> Window:
        """The text of these samples, before the objective."""
        index = np.arange(start, stop)
        if self.mixture is None:
            return self._window(self.parts[0], index, start)
        source, number = self.mixture(start, stop)
        found = [np.flatnonzero(source == part) for part in range(len(self.parts))]
        pieces = [
            self._window(part, index[mine], int(number[mine[0]]))
            for part, mine in zip(self.parts, found, strict=True)
            if len(mine)
        ]
        return _joined(pieces, np.argsort(np.concatenate(found)))

    def _window(self, part: Part, index: np.ndarray, first: int) -> Window:
        """Samples `index` of the run, which are samples first, first + 1 ... of their source."""
        place = part.places(first, first + len(index))
        cut = part.windows.cut(place)
        partner = other = None
        if self.objective.partner:
            partner, other = self._partners(part, place, index)
        epoch = (first + np.arange(len(index))) // part.n
        return Window(
            *(cut.tokens, cut.segments, cut.positions, index, part.first + place, epoch),
            *(self.seed, partner, other, cut.begins),
            None if self.language is None else self.language.of(part.windows.document(place) + part.documents),
        )

    def _partners(self, part: Part, place: np.ndarray, index: np.ndarray) -> tuple[Window, np.ndarray]:
        """A random window of another document of the same source for each, as far as ten draws find one."""
        draws = below(rows(self.seed, "partner", index, TRIES), part.n)
        other = part.windows.document(draws.ravel()).reshape(draws.shape) != part.windows.document(place)[:, None]
        chosen = draws[np.arange(len(draws)), np.argmax(other, axis=1)]
        cut: Cut = part.windows.cut(chosen)
        window = Window(cut.tokens, cut.segments, cut.positions, index, part.first + chosen, index * 0, self.seed)
        return window, other.any(axis=1)


def check(prepared: Prepared, config: Config) -> None:
    """Raise UserError where this text cannot serve this run, before any worker starts.

    Too few tokens for one sample, too few sentinels, epoch caps that starve a stage, a language that nobody stated.
    """
    Samples(prepared, config, "train")
    Samples(prepared, config, "held_out")


class Languages:
    """The language token of every document, from the sources of a mixture."""

    def __init__(self, prepared: Prepared, config: Config, split: str) -> None:
        origins = prepared.manifest["splits"][split]["origins"]
        self._edges = np.cumsum([sizes["documents"] for sizes in origins.values()])
        self._tokens = np.array([self._token(prepared, config, origin) for origin in origins], np.int64)

    def _token(self, prepared: Prepared, config: Config, origin: str) -> int:
        source = config.data.sources.get(origin)
        name = config.objective.name
        if source is None or source.language is None:
            where = f"data.sources.{origin}.language" if source else "data=mixture with data.sources.*.language"
            raise UserError(f"objective={name}: it needs the language of every text; state {where}")
        token = f"<{source.language}>"
        if token not in prepared.specials:
            raise UserError(f"objective={name}: the tokenizer has no {token}; add it to tokenizer.symbols")
        return prepared.specials[token]

    def of(self, documents: np.ndarray) -> np.ndarray:
        """int64 [B]: the token of each of these documents, counted over the whole split."""
        which = np.searchsorted(self._edges, documents, side="right")
        return self._tokens[np.minimum(which, len(self._tokens) - 1)]


def _joined(pieces: list[Window], order: np.ndarray) -> Window:
    """The rows of several windows as one, rearranged."""

    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(piece, name) for piece in pieces])[order]

    return Window(
        join("tokens"),
        join("segments"),
        join("positions"),
        join("index"),
        join("place"),
        join("epoch"),
        pieces[0].seed,
        None if pieces[0].partner is None else _joined([w.partner for w in pieces if w.partner is not None], order),
        None if pieces[0].other_document is None else join("other_document"),
        language=None if pieces[0].language is None else join("language"),
    )


def blank(batch: Batch, pad: int) -> Batch:
    """A batch of the same shapes with nothing to learn: padding and no targets."""
    fill = {"tokens": pad, "source_tokens": pad, "segments": PADDING, "source_segments": PADDING}
    fill |= {"targets": NO_TARGET, "sentence_label": NO_TARGET}
    return {name: np.full_like(array, fill.get(name, 0)) for name, array in batch.items()}
