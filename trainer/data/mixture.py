"""Which source sample number i is drawn from: a pure function of the weights, the seed and i.

The run is cut into blocks of BLOCK samples. In every whole block each source has its exact quota, in an order that a
seeded bijection gives, so that the mixture holds to one part in BLOCK all along the run and needs no memory of what was
drawn. Where an epoch cap binds, blocks are so much smaller that they end where the run does: no cap is ever exceeded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainer.books.run_length import known_steps
from trainer.config import Config, DataConfig
from trainer.data.order import Order
from trainer.utils.errors import UserError

BLOCK = 10_000


@dataclass(frozen=True)
class MixedStage:
    """Samples first..last-1 of the run, which are one of its stages.

    quotas: samples of each source per block; read: samples of this length that each source gave before. A source that
    gives all it may has `surplus` samples more than its quota in every `blocks` blocks, at the expense of the `filler`.
    """

    number: int
    first: int
    last: float
    read: np.ndarray
    order: Order  # of the samples in a block
    quotas: np.ndarray
    surplus: np.ndarray
    blocks: int
    filler: int

    def given(self, blocks: int) -> np.ndarray:
        """Samples of each source in the first blocks, int64 [sources]."""
        surplus = self.surplus * blocks // self.blocks
        surplus[self.filler] -= surplus.sum()
        return blocks * self.quotas + surplus


class Mixture:
    """Sample numbers -> (source, number of the sample among those of its source)."""

    def __init__(self, config: Config, tokens: dict[str, int], epochs: dict[int, np.ndarray]) -> None:
        """tokens: of each source; epochs: sequence length -> samples of that length in an epoch of each source.

        Raises UserError when the epoch caps leave less text than the run reads.
        """
        data, curriculum = config.data, config.curriculum
        self._seed = config.seed
        self.names = list(tokens)
        self._block: tuple[int, np.ndarray, np.ndarray] | None = None
        caps = [data.sources[name].epochs if name in data.sources else None for name in self.names]
        left = np.array([math.inf if cap is None else cap for cap in caps])  # epochs of each source
        steps = known_steps(config)
        samples = math.inf if steps is None else curriculum.samples(steps)
        read = {length: np.zeros(len(tokens), np.int64) for length in epochs}
        self.stages: list[MixedStage] = []
        self._whole: list[np.ndarray] = []  # samples that each source gives in each stage that has an end
        for stage in curriculum.stages:
            first, last = stage.first_sample, stage.last_sample
            epoch, before = epochs[stage.sequence_length], read[stage.sequence_length]
            expected = max(min(last, samples) - first, 0)
            name = f"data.stages[{stage.number}]" if data.stages else "this run"
            shares, full = self._capped(self._weights(data, stage.number, tokens), left * epoch, expected, name)
            mixed = MixedStage(stage.number, first, last, before, *self._blocks(shares, full, expected))
            self.stages.append(mixed)
            if not math.isinf(last):
                counts = self._counts(mixed, int(last))
                self._whole.append(counts)
                read[stage.sequence_length] = before + counts
                left = left - counts / epoch

    def _weights(self, data: DataConfig, stage: int, tokens: dict[str, int]) -> np.ndarray:
        """Those of the stage, else of the sources, else their sizes to the power alpha. Beside sources pairs have
        `data.parallel_share` together."""
        if data.stages and (weights := data.stages[stage].weights):
            return np.array([weights.get(name, 0.0) for name in self.names])
        stated = {name: data.sources[name].weight if name in data.sources else None for name in self.names}
        given = [tokens[name] ** data.alpha if weight is None else weight for name, weight in stated.items()]
        found, paired = np.array(given), np.array([name in data.pairs for name in self.names])
        if not (paired.any() and found[~paired].sum()):
            return found
        share = np.where(paired, data.parallel_share, 1 - data.parallel_share)
        return share * found / np.where(paired, found[paired].sum(), found[~paired].sum())

    def _blocks(
        self, shares: np.ndarray, full: np.ndarray, expected: float
    ) -> tuple[Order, np.ndarray, np.ndarray, int, int]:
        """Order, quotas, surplus, blocks and filler of a stage; `full` sources give their share of `expected` samples
        rounded down, and in no block are they ahead of it."""
        if not full.any():
            return Order(BLOCK, self._seed, ("mixture", 0)), quotas(shares), np.zeros(len(shares), np.int64), 1, 0
        blocks = -(-int(expected) // BLOCK)
        size = -(-int(expected) // blocks)
        given = np.where(full, np.floor(shares * expected + 1e-6), 0).astype(np.int64)
        whole, surplus = np.divmod(given, blocks)
        others = np.where(full, 0.0, shares)
        if others.sum():
            whole += quotas(others / others.sum(), size - int(whole.sum()))
        free = np.where(full, 0, whole)
        filler = int(np.argmax(free if free.max() >= full.sum() else whole))
        whole[filler] += size - whole.sum()
        return Order(size, self._seed, ("mixture", 0)), whole, surplus, blocks, filler

    def _capped(
        self, weights: np.ndarray, allowed: np.ndarray, expected: float, stage: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shares that ask no source for more than it may give; the others take over in proportion. And bool [sources]:
        which give all that they may, or so nearly that a rounded quota would be more."""
        shares = weights / weights.sum()
        full = np.zeros(len(shares), bool)
        if not expected or math.isinf(expected):  # without an end there are no caps
            return shares, full
        most = np.maximum(allowed, 0) / expected
        while (over := ~full & (shares > most + 1e-12)).any():
            full |= over
            rest = weights * ~full
            left = 1 - most[full].sum()
            if not rest.sum():
                available = int(np.minimum(allowed, expected)[weights > 0].sum())
                raise UserError(
                    f"data.sources: the epoch caps leave {available:,} samples for the {int(expected):,} of "
                    f"{stage}; raise data.sources.*.epochs, give more text, or shorten the run"
                )
            shares = np.where(full, most, left * rest / rest.sum())
        return shares, full | ((shares > 0) & (shares > most - 1 / min(BLOCK, expected)))

    def __call__(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, number), int64 [stop - start] each; the numbers of one source are consecutive."""
        source, number = np.empty((2, stop - start), np.int64)
        at = start
        while at < stop:
            stage = next(stage for stage in self.stages if at < stage.last)
            block, offset = divmod(at - stage.first, stage.order.n)
            until = int(min(stop, stage.last, stage.first + (block + 1) * stage.order.n))
            owners, ranks = self._table(stage, block)
            mine, rank = owners[offset : offset + until - at], ranks[offset : offset + until - at]
            source[at - start : until - start] = mine
            number[at - start : until - start] = (stage.read + stage.given(block))[mine] + rank
            at = until
        return source, number

    def _table(self, stage: MixedStage, block: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, rank among those of its source in the block) of every sample of a block."""
        key = stage.number << 32 | block
        known = self._block  # one tuple, so that two threads may ask
        if known is None or known[0] != key:
            size, here = stage.order.n, stage.given(block + 1) - stage.given(block)
            owners = np.searchsorted(np.cumsum(here), stage.order(key * size, (key + 1) * size), side="right")
            ranks = np.empty(size, np.int64)
            for source in range(len(self.names)):
                mine = owners == source
                ranks[mine] = np.arange(mine.sum())
            known = self._block = key, owners, ranks
        return known[1], known[2]

    def _counts(self, stage: MixedStage, stop: int) -> np.ndarray:
        """Samples of each source from the stage's first to stop - 1."""
        whole, rest = divmod(stop - stage.first, stage.order.n)
        owners = self._table(stage, whole)[0][:rest]
        return stage.given(whole) + np.bincount(owners, minlength=len(self.names))

    def counts(self, stop: int) -> list[np.ndarray]:
        """Samples of each source among 0..stop-1, int64 [sources] for every stage that they reach."""
        reached = [stage for stage in self.stages if stage.first < stop]
        return [self._whole[stage.number] if stage.last <= stop else self._counts(stage, stop) for stage in reached]

    def realised(self, start: int, stop: int) -> dict[str, int]:
        """Samples of each source among start..stop-1."""
        none = np.zeros(len(self.names), np.int64)
        counts = sum(self.counts(stop), none) - sum(self.counts(start), none)
        return dict(zip(self.names, counts.tolist(), strict=True))


def quotas(shares: np.ndarray, size: int = BLOCK) -> np.ndarray:
    """Whole samples of each source per block: they sum to its size, none that has a share goes without."""
    exact = shares * size
    whole = np.where(shares > 0, np.maximum(np.floor(exact), 1), 0).astype(np.int64)
    missing = size - int(whole.sum())
    if missing > 0:
        whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    elif missing < 0:
        whole[np.argmax(whole)] += missing
    return whole
