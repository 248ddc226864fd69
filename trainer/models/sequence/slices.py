"""Which positions of a sequence a rank holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trainer.utils.targets import NOT_A_TARGET

# Arrays of a batch [B, S] that stay whole: who sees whom is asked of all positions.
WHOLE_ARRAYS = frozenset({"segments", "source_segments", "order"})
PADDING = {"targets": NOT_A_TARGET, "segments": -1, "source_segments": -1, "order": np.iinfo(np.int32).max}


class Stretch(NamedTuple):
    """Positions first .. first + length - 1."""

    first: int
    length: int


@dataclass(frozen=True)
class Slices:
    """Equal chunks of a sequence, one or two for each rank.

    zigzag: of 2 x ranks chunks a rank holds one from the front and its mirror image from the end, so that under
    causality all ranks have as many pairs to compute; else of as many chunks as ranks its own.
    """

    ranks: int = 1
    rank: int = 0
    zigzag: bool = False

    @property
    def chunks(self) -> int:
        """Chunks of a sequence, whose length is a multiple of this."""
        return self.ranks * (2 if self.zigzag else 1)

    def of(self, rank: int) -> tuple[int, ...]:
        """Chunks of a rank, in ascending order."""
        return (rank, self.chunks - 1 - rank) if self.zigzag else (rank,)

    def stretches(self, length: int, rank: int | None = None) -> tuple[Stretch, ...]:
        """Positions of this rank, or of another, of sequences of which it holds `length`."""
        size = length * self.ranks // self.chunks
        return tuple(Stretch(chunk * size, size) for chunk in self.of(self.rank if rank is None else rank))

    def batch(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What this rank reads of a batch: [B, S] arrays filled up to whole chunks, and its positions of them; who sees
        whom is of all positions."""
        for tokens in ("tokens", "source_tokens"):  # what fills up is hidden by its segment
            there = f"{tokens.removesuffix('tokens')}segments" in arrays
            assert tokens not in arrays or there or arrays[tokens].shape[1] % self.chunks == 0, f"no segments: {tokens}"
        return {name: self._share(name, array) for name, array in arrays.items()}

    def _share(self, name: str, array: np.ndarray) -> np.ndarray:
        if array.ndim < 2 or self.ranks == 1:
            return array
        missing = -array.shape[1] % self.chunks
        if missing:  # in front of nothing: what pads sees nothing and is no target
            fill = PADDING.get(name, 0)
            array = np.pad(array, ((0, 0), (0, missing)), constant_values=fill)
        if name in WHOLE_ARRAYS:
            return array
        chunks = np.split(array, self.chunks, axis=1)
        return np.concatenate([chunks[chunk] for chunk in self.of(self.rank)], axis=1)
