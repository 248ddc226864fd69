"""The order of an epoch: a seeded bijection of [0, n), computed where it is needed and stored nowhere.

A balanced Feistel network over the smallest even number of bits that holds n, walked along its cycle until it lands
inside [0, n) again (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from trainer.objectives.noise import bits

ROUNDS = 8
BLOCK = 8192  # positions computed at a time; the answer does not depend on it


class Order:
    """Sample numbers of an endless run -> positions in the corpus, each once per epoch."""

    def __init__(self, n: int, seed: int, stream: tuple[str, int] = ("order", 0)) -> None:
        """stream: purpose, and a number that tells apart orders of the same purpose."""
        self.n, self.seed, self.stream = n, seed, stream
        self._half = max(1, -(-(n - 1).bit_length() // 2))
        self._blocks: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Positions int64 [stop - start] of samples start..stop-1; sample i belongs to epoch i // n."""
        parts = []
        while start < stop:
            epoch, within = divmod(start, self.n)
            block, offset = divmod(within, BLOCK)
            part = self._block(epoch, block)[offset : offset + stop - start]
            parts.append(part)
            start += len(part)
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _block(self, epoch: int, block: int) -> np.ndarray:
        known = self._blocks.get((epoch, block))
        if known is None:
            known = self._positions(epoch, block * BLOCK, min((block + 1) * BLOCK, self.n))
            if len(self._blocks) > 3:
                self._blocks = {}
            self._blocks[epoch, block] = known
        return known

    def _positions(self, epoch: int, begin: int, end: int) -> np.ndarray:
        keys = bits(self.seed, self.stream[0], epoch, ROUNDS, self.stream[1])
        step: Callable[[np.ndarray], np.ndarray] = partial(self._encipher, keys=keys)
        if self.n <= BLOCK:  # few enough for a table of the whole domain, which makes the walk a look-up
            step = step(np.arange(1 << 2 * self._half)).take
        positions = step(np.arange(begin, end))
        while len(outside := np.flatnonzero(positions >= self.n)):
            positions[outside] = step(positions[outside])
        return positions

    def _encipher(self, x: np.ndarray, keys: np.ndarray) -> np.ndarray:
        half = np.uint64(self._half)
        mask = np.uint64((1 << self._half) - 1)
        x = x.astype(np.uint64)
        left, right = x >> half, x & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return (left << half | right).astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection of uint64: every input bit reaches every output bit (Stafford's variant 13, as in SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
