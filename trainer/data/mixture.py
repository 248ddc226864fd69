"""Which source sample number i is drawn from: a pure function of the weights, the seed and i.

The run is cut into blocks of BLOCK samples. In every whole block each source has its exact quota, in an order that a
seeded bijection gives, so that the mixture holds to one part in BLOCK all along the run and needs no memory of what was
drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainer.config import DataConfig
from trainer.data.order import Order
from trainer.errors import UserError

BLOCK = 10_000


@dataclass(frozen=True)
class Stage:
    """Samples first..last-1 of the run. quotas: samples of each source per block; read: of each source before."""

    number: int
    first: int
    last: float
    quotas: np.ndarray
    read: np.ndarray


class Mixture:
    """Sample numbers -> (source, number of the sample among those of its source)."""

    def __init__(
        self, data: DataConfig, sizes: dict[str, tuple[int, int]], samples: int, tokens: int, seed: int
    ) -> None:
        """sizes: (samples per epoch, tokens) of each source; samples, tokens: of the run, and of one sample.

        Raises UserError when the epoch caps leave less text than the run reads.
        """
        self.names = list(sizes)
        self._order = Order(BLOCK, seed, ("mixture", 0))
        self._block: tuple[int, np.ndarray, np.ndarray] | None = None
        caps = [data.sources[name].epochs for name in self.names]
        allowed = np.array(
            [math.inf if cap is None else cap * size for cap, (size, _) in zip(caps, sizes.values(), strict=True)]
        )
        self.stages: list[Stage] = []
        read, first = np.zeros(len(sizes), np.int64), 0
        for weights, length in self._wanted(data, sizes, tokens):
            expected = min(length, max(samples - first, 0))
            shares = self._capped(weights, allowed - read, expected)
            stage = Stage(len(self.stages), first, first + length, quotas(shares), read)
            self.stages.append(stage)
            if math.isinf(length):
                break
            read, first = read + self._counts(stage, int(stage.last)), int(stage.last)

    def _wanted(
        self, data: DataConfig, sizes: dict[str, tuple[int, int]], tokens: int
    ) -> list[tuple[np.ndarray, float]]:
        """(weights, samples) of every stage; the last one goes on for ever."""
        if data.stages:
            weights = [np.array([stage.weights.get(name, 0.0) for name in self.names]) for stage in data.stages]
            lengths: list[float] = [-(-stage.tokens // tokens) for stage in data.stages]
            return list(zip(weights, [*lengths[:-1], math.inf], strict=True))
        stated = [data.sources[name].weight for name in self.names]
        by_size = [size**data.alpha for _, size in sizes.values()]
        both = zip(stated, by_size, strict=True)
        return [(np.array([size if weight is None else weight for weight, size in both]), math.inf)]

    def _capped(self, weights: np.ndarray, allowed: np.ndarray, expected: float) -> np.ndarray:
        """Shares that ask no source for more than it may give; the others take over in proportion."""
        shares = weights / weights.sum()
        if not expected:
            return shares
        most = np.maximum(allowed, 0) / expected
        full = np.zeros(len(shares), bool)
        while (over := ~full & (shares > most + 1e-12)).any():
            full |= over
            rest = weights * ~full
            left = 1 - most[full].sum()
            if not rest.sum():
                available = int(np.minimum(allowed, expected)[weights > 0].sum())
                raise UserError(
                    f"data.sources: the epoch caps leave {available:,} samples for the {int(expected):,} of this "
                    "stage; raise data.sources.*.epochs, give more text, or shorten the run"
                )
            shares = np.where(full, most, left * rest / rest.sum())
        return shares

    def __call__(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, number), int64 [stop - start] each; the numbers of one source are consecutive."""
        source, number = np.empty((2, stop - start), np.int64)
        at = start
        while at < stop:
            stage = next(stage for stage in self.stages if at < stage.last)
            block, offset = divmod(at - stage.first, BLOCK)
            until = int(min(stop, stage.last, stage.first + (block + 1) * BLOCK))
            owners, ranks = self._table(stage, block)
            mine, rank = owners[offset : offset + until - at], ranks[offset : offset + until - at]
            source[at - start : until - start] = mine
            number[at - start : until - start] = stage.read[mine] + block * stage.quotas[mine] + rank
            at = until
        return source, number

    def _table(self, stage: Stage, block: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, rank among those of its source in the block) of every sample of a block."""
        key = stage.number << 32 | block
        known = self._block  # one tuple, so that two threads may ask
        if known is None or known[0] != key:
            owners = np.searchsorted(np.cumsum(stage.quotas), self._order(key * BLOCK, (key + 1) * BLOCK), side="right")
            ranks = np.empty(BLOCK, np.int64)
            for source in range(len(self.names)):
                mine = owners == source
                ranks[mine] = np.arange(mine.sum())
            known = self._block = key, owners, ranks
        return known[1], known[2]

    def _counts(self, stage: Stage, stop: int) -> np.ndarray:
        """Samples of each source from the stage's first to stop - 1."""
        whole, rest = divmod(stop - stage.first, BLOCK)
        owners = self._table(stage, whole)[0][:rest]
        return whole * stage.quotas + np.bincount(owners, minlength=len(self.names))

    def realised(self, start: int, stop: int) -> dict[str, int]:
        """Samples of each source among start..stop-1."""
        counts = np.zeros(len(self.names), np.int64)
        for stage in self.stages:
            first, last = max(start, stage.first), int(min(stop, stage.last))
            if first < last:
                counts += self._counts(stage, last) - self._counts(stage, first)
        return dict(zip(self.names, counts.tolist(), strict=True))


def quotas(shares: np.ndarray) -> np.ndarray:
    """Whole samples of each source per block: they sum to BLOCK, none that has a share goes without."""
    exact = shares * BLOCK
    whole = np.where(shares > 0, np.maximum(np.floor(exact), 1), 0).astype(np.int64)
    missing = BLOCK - int(whole.sum())
    if missing > 0:
        whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    elif missing < 0:
        whole[np.argmax(whole)] += missing
    return whole
