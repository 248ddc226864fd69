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
PURPOSES = {"order": 1, "noise": 2, "static": 3, "partner": 4, "mixture": 5, "template": 6, "answer": 11}
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
    return stretches(seed, purpose, index, np.full(len(index), count), part).reshape(len(index), count)


def stretches(
    seed: int, purpose: str, index: np.ndarray, counts: np.ndarray, part: int | np.ndarray = 0, first: int = 0
) -> np.ndarray:
    """uint64 [sum of counts]: of every row's stream the numbers first, first + 1 ..., so many; row after row.

    part: of all rows, or int64 [rows]. What comes before `first` is passed over: a block of Philox has four numbers.
    """
    philox, state, found = _local.philox, _local.state, [np.empty(0, np.uint64)]
    block, over = divmod(first, 4)
    counter = [block, 0, part, 0]
    state["state"] = {"key": (seed, PURPOSES[purpose]), "counter": counter}
    parts = part.tolist() if isinstance(part, np.ndarray) else [part] * len(index)
    for counter[3], count, counter[2] in zip(index.tolist(), (counts + over).tolist(), parts, strict=True):
        if count > over:
            philox.state = state
            found.append(philox.random_raw(count)[over:] if over else philox.random_raw(count))
    return np.concatenate(found)


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


def choose(bits: np.ndarray, lengths: np.ndarray, eligible: np.ndarray, count: np.ndarray) -> np.ndarray:
    """bool: in every row, `count` of the eligible places, each set of them equally likely.

    bits: uint64, eligible: bool, both of the rows end to end, which are as long as `lengths` says.
    """
    scores = np.where(eligible, bits, LARGEST)
    chosen, ends = np.zeros(len(bits), bool), lengths.cumsum()
    for begin, end, wanted in zip((ends - lengths).tolist(), ends.tolist(), count.tolist(), strict=True):
        if wanted > 0 and end > begin:
            row, last = scores[begin:end], min(wanted, end - begin) - 1
            chosen[begin:end] = row <= np.partition(row, last)[last]
    return chosen & eligible


Draw = Callable[[np.ndarray, int], np.ndarray]  # (counts, part) -> so many uint64 of every row's stream, end to end


def choose_few(
    draw: Draw, part: int, origin: np.ndarray, bound: np.ndarray, count: np.ndarray, tries: np.ndarray
) -> np.ndarray:
    """int64: in every row `count` of its `bound` places, each set of them equally likely.

    They come as origin + place, ascending, as the origins do: the first distinct ones of `tries` random places. Rows in
    which those are too few are drawn anew by `choose`, from part + 1. Cheaper than `choose` where few are taken of
    many. `tries` must not depend on the batch.
    """
    some = count > 0
    tries = np.where(some, tries, 0)
    for seen in (np.minimum(16 + 5 * count // 4, tries), tries):  # the first ones are nearly always enough
        place = below(draw(seen, part), bound.repeat(seen)) + origin.repeat(seen)
        # Which try took a place first: of those that are written to one place, the last one stays.
        number = np.arange(len(place), dtype=np.int32)
        first = np.empty(int((origin + bound)[-1:].sum()), np.int32)
        first[place[::-1].copy()] = number[::-1].copy()
        fresh = np.flatnonzero(first[place] == number)
        ends = seen.cumsum()
        begin = fresh.searchsorted(ends - seen)
        distinct = fresh.searchsorted(ends) - begin
        short = some & (distinct < count)
        if not short.any():
            return np.sort(place[fresh[numbers(begin, begin + count)]])
    taken = np.where(short, 0, count)
    sizes = np.where(short, bound, 0)
    anew = choose(draw(sizes, part + 1), sizes, np.ones(sizes.sum(), bool), np.where(short, count, 0))
    places = numbers(origin, origin + sizes)[anew]
    return np.sort(np.concatenate([place[fresh[numbers(begin, begin + taken)]], places]))


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
