"""Counter-based randomness: every draw is a pure function of (seed, purpose, index).

The bits come from Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), whose raw stream
numpy keeps stable between releases. Everything above the bits (floats, choices, tables) is ours, so that an order or
a noise never moves with a numpy release.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from trainer.objectives.ranges import numbers

# A purpose is a stream of its own; the numbers are part of the identity of a run and never change their meaning.
PURPOSES = {"order": 1, "noise": 2, "static": 3, "partner": 4, "mixture": 5, "template": 6}
LARGEST = np.uint64(2**64 - 1)


class _Local(threading.local):
    """One generator per thread: setting its state costs a tenth of making another, less where it is no arrays."""

    def __init__(self) -> None:
        self.philox = np.random.Philox()
        self.state: Any = {**self.philox.state, "buffer": (0,) * 4, "buffer_pos": 4, "has_uint32": 0}


_local = _Local()


def bits(seed: int, purpose: str, index: int, count: int, part: int = 0) -> np.ndarray:
    """`count` uint64 of the stream (seed, purpose, index), or of its part of that number."""
    return rows(seed, purpose, np.array([index], np.uint64), count, part)[0]


def rows(seed: int, purpose: str, index: np.ndarray, count: int, part: int = 0) -> np.ndarray:
    """uint64 [len(index), count]: one stream per row."""
    bits = np.empty((len(index), count), np.uint64)
    philox, state, counter = _local.philox, _local.state, [0, 0, part, 0]
    state["state"] = {"key": (seed, PURPOSES[purpose]), "counter": counter}
    for row, number in enumerate(index.tolist()):
        counter[3] = number
        philox.state = state
        bits[row] = philox.random_raw(count)
    return bits


def uniform(bits: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) from the upper 53 of 64 bits."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def low(bits: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) from the lowest 24 bits: still uniform where the number itself was chosen for being small."""
    return (bits & np.uint64(0xFFFFFF)).astype(np.float64) * 2.0**-24


def middle(bits: np.ndarray, bound: int) -> np.ndarray:
    """int64 uniform in [0, bound) from the 32 bits above those of `low`."""
    return ((bits >> np.uint64(24) & np.uint64(0xFFFFFFFF)).astype(np.float64) * (bound * 2.0**-32)).astype(np.int64)


def below(bits: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """int64 uniform in [0, bound); 0 where bound is 0."""
    return (uniform(bits) * bound).astype(np.int64)


def round_randomly(bits: np.ndarray, value: np.ndarray) -> np.ndarray:
    """int64, up or down so that the expectation is `value` exactly (RoBERTa's count of masked tokens)."""
    return np.floor(value + uniform(bits)).astype(np.int64)


def choose(bits: np.ndarray, eligible: np.ndarray, count: np.ndarray) -> np.ndarray:
    """bool [B, S]: in every row, `count` of the eligible places, each set of them equally likely."""
    scores = np.where(eligible, bits, LARGEST)
    count = np.minimum(count, eligible.sum(axis=1))
    return eligible & (scores <= _smallest(scores, count)) & (count > 0)[:, None]


Draw = Callable[[int, int], np.ndarray]  # (count, part) -> uint64 [B, count], the same prefix for any count


def choose_few(draw: Draw, part: int, width: int, bound: np.ndarray, count: np.ndarray, tries: int) -> np.ndarray:
    """int64: in every row `count` of the first `bound` of its `width` places, each set of them equally likely.

    They come as row * width + place, ascending: the first distinct ones of `tries` random places. Rows in which those
    are too few are drawn anew by `choose`, from part + 1. Cheaper than `choose` where few are taken of many. `tries`
    must not depend on the batch.
    """
    rows = np.arange(len(count))
    few = 16 + 5 * int(count.max(initial=0)) // 4
    for seen in (min(few, tries), tries):  # the first ones are nearly always enough
        place = (below(draw(seen, part), bound[:, None]) + width * rows[:, None]).ravel()
        # Which try took a place first: of those that are written to one place, the last one stays.
        number = np.arange(len(place), dtype=np.int32)
        first = np.empty(len(rows) * width, np.int32)
        first[place[::-1].copy()] = number[::-1].copy()
        fresh = np.flatnonzero(first[place] == number)
        edges = fresh.searchsorted(np.arange(0, len(place) + 1, seen))
        begin, distinct = edges[:-1], edges[1:] - edges[:-1]
        short = np.flatnonzero(distinct < count)
        if not len(short):
            return np.sort(place[fresh[numbers(begin, begin + count)]])
    end = begin + count
    end[short] = begin[short]
    inside = np.arange(width) < bound[short, None]
    row, column = np.nonzero(choose(draw(width, part + 1)[short], inside, count[short]))
    return np.sort(np.concatenate([place[fresh[numbers(begin, end)]], short[row] * width + column]))


def _smallest(scores: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The count-th smallest score of each row, [B, 1]."""
    wanted = np.maximum(count - 1, 0)
    few = np.unique(wanted)
    ranked = np.partition(scores, few, axis=1) if len(few) <= 3 else np.sort(scores, axis=1)
    return ranked[np.arange(len(scores)), wanted][:, None]


def poisson(bits: np.ndarray, mean: float) -> np.ndarray:
    """int64, Poisson distributed, by inversion of its table.

    A guide holds the answer for most of equal cells of [0, 1) (Chen and Asau 1974); the others are searched.
    """
    table, guide = _poisson_table(mean)
    chance = uniform(bits).ravel()
    counts = guide[(chance * len(guide)).astype(np.int64)]
    unsure = np.flatnonzero(counts < 0)
    counts[unsure] = table.searchsorted(chance[unsure], side="right")
    return counts.reshape(bits.shape)


@cache
def _poisson_table(mean: float) -> tuple[np.ndarray, np.ndarray]:
    """(P(count <= k) of k = 0, 1 ...; the count of a chance in each of 1024 cells, -1 where the cell has several)."""
    terms = [math.exp(-mean)]
    while len(terms) < mean or terms[-1] > 1e-18:
        terms.append(terms[-1] * mean / len(terms))
    table, cells = np.cumsum(terms)[:-1], np.arange(1025) / 1024
    least, most = table.searchsorted(cells[:-1], side="right"), table.searchsorted(cells[1:], side="left")
    return table, np.where(least == most, least, -1)


def harmonic(bits: np.ndarray, longest: int) -> np.ndarray:
    """int64 in 1..longest with probability proportional to 1/n (the n-grams of ALBERT and XLNet)."""
    weights = 1 / np.arange(1, longest + 1)
    return 1 + np.searchsorted(np.cumsum(weights / weights.sum())[:-1], uniform(bits), side="right")
