"""Best-fit packing: whole documents share a sample, so that little of it is padding and none of them is cut in two.

Best-fit decreasing (Johnson et al. 1974): the largest piece first, each into the fullest sample that it fits in.
Only documents longer than a sample are cut. Ding et al. 2024, "Fewer truncations improve language modeling", section 3.
"""

from __future__ import annotations

import numpy as np

from trainer.data.layouts import Pieces
from trainer.data.packing import Packing
from trainer.data.pair_layout import Pairs


class BestFit(Packing):
    """Pieces of documents, put together in samples. packed_lengths: int64 [length + 1], see `Packed.packed_lengths`."""

    def __init__(self, pieces: Pieces | Pairs, packed_lengths: np.ndarray, capacity: int) -> None:
        sizes = packed_lengths[pieces.lengths()]
        super().__init__(best_fit(sizes, capacity), sizes, capacity)


def best_fit(sizes: np.ndarray, capacity: int) -> np.ndarray:
    """int64: the sample of each piece. Pieces of one size are placed together, so that millions take seconds."""
    sample = np.empty(len(sizes), np.int64)
    order = np.argsort(-sizes, kind="stable")
    free: list[list[np.ndarray]] = [[] for _ in range(capacity + 1)]  # samples by their tokens that are free
    opened = at = 0
    values, counts = np.unique(sizes, return_counts=True)
    for size, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        items, at = order[at : at + count], at + count
        for space in range(size, capacity + 1):
            if not len(items):
                break
            if free[space]:
                candidates = np.concatenate(free[space])
                items, left = _place(items, candidates, space, size, sample, free)
                free[space] = [left] if len(left) else []
        if len(items):
            fresh = np.arange(opened, opened + -(-len(items) // (capacity // size)))
            opened += len(fresh)
            _place(items, fresh, capacity, size, sample, free)
    return sample


def _place(
    items: np.ndarray, samples: np.ndarray, space: int, size: int, sample: np.ndarray, free: list[list[np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Fill samples with items of one size, each as far as it goes; returns the items and samples that are left over."""
    each = space // size
    used, rest = samples[: -(-len(items) // each)], samples[-(-len(items) // each) :]
    placed = min(len(items), len(used) * each)
    sample[items[:placed]] = np.repeat(used, each)[:placed]
    last = placed - (len(used) - 1) * each  # the last one may be filled in part
    if len(used) > 1:
        free[space - each * size].append(used[:-1])
    free[space - last * size].append(used[-1:])
    return items[placed:], rest
