"""Counter-based randomness: every draw is a pure function of (seed, purpose, index).

The bits come from Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), whose raw stream
numpy keeps stable between releases. Everything above the bits (floats, choices, tables) is ours, so that an order or
a noise never moves with a numpy release.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

# A purpose is a stream of its own; the numbers are part of the identity of a run and never change their meaning.
PURPOSES = {"order": 1, "noise": 2, "static": 3, "partner": 4, "mixture": 5, "template": 6}
LARGEST = np.uint64(2**64 - 1)
_local = threading.local()


def bits(seed: int, purpose: str, index: int, count: int, part: int = 0) -> np.ndarray:
    """`count` uint64 of the stream (seed, purpose, index), or of its part of that number."""
    generator, state = _philox()
    state["state"]["key"][:] = seed, PURPOSES[purpose]
    state["state"]["counter"][:] = 0, 0, part, index
    generator.state = state
    return generator.random_raw(count)


def _philox() -> tuple[np.random.Philox, Any]:
    """One generator per thread: setting its state costs a tenth of making another."""
    if not hasattr(_local, "philox"):
        generator = np.random.Philox()
        _local.philox = generator, {**generator.state, "buffer_pos": 4, "has_uint32": 0}
    return _local.philox


def rows(seed: int, purpose: str, index: np.ndarray, count: int, part: int = 0) -> np.ndarray:
    """uint64 [len(index), count]: one stream per row."""
    drawn = np.empty((len(index), count), np.uint64)
    generator, state = _philox()
    state["state"]["key"][:] = seed, PURPOSES[purpose]
    counter = state["state"]["counter"]
    for row, number in enumerate(index.tolist()):
        counter[:] = 0, 0, part, number
        generator.state = state
        drawn[row] = generator.random_raw(count)
    return drawn


def uniform(raw: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) from the upper 53 of 64 bits."""
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def low(raw: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) from the lowest 24 bits: still uniform where the number itself was chosen for being small."""
    return (raw & np.uint64(0xFFFFFF)).astype(np.float64) * 2.0**-24


def middle(raw: np.ndarray, bound: int) -> np.ndarray:
    """int64 uniform in [0, bound) from the 32 bits above those of `low`."""
    return ((raw >> np.uint64(24) & np.uint64(0xFFFFFFFF)).astype(np.float64) * (bound * 2.0**-32)).astype(np.int64)


def below(raw: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """int64 uniform in [0, bound); 0 where bound is 0."""
    return (uniform(raw) * bound).astype(np.int64)


def round_randomly(raw: np.ndarray, value: np.ndarray) -> np.ndarray:
    """int64, up or down so that the expectation is `value` exactly (RoBERTa's count of masked tokens)."""
    return np.floor(value + uniform(raw)).astype(np.int64)


def choose(raw: np.ndarray, eligible: np.ndarray, count: np.ndarray) -> np.ndarray:
    """bool [B, S]: in every row, `count` of the eligible places, each set of them equally likely."""
    scores = np.where(eligible, raw, LARGEST)
    count = np.minimum(count, eligible.sum(axis=1))
    return eligible & (scores <= _smallest(scores, count)) & (count > 0)[:, None]


Draw = Callable[[int, int], np.ndarray]  # (count, part) -> uint64 [B, count], the same prefix for any count


def choose_few(draw: Draw, part: int, width: int, bound: np.ndarray, count: np.ndarray, tries: int) -> np.ndarray:
    """bool [B, width]: `count` of the first `bound` places, each set of them equally likely.

    The first distinct ones of `tries` random places; rows in which those are too few are drawn anew by `choose`, from
    part + 1. Cheaper than `choose` where few are taken of many. `tries` must not depend on the batch.
    """
    rows = len(count)
    place = below(draw(tries, part), bound[:, None])
    ranked = np.sort(place * tries + np.arange(tries), axis=1)  # by place, then by time
    place, time = np.divmod(ranked, tries)
    fresh = np.ones((rows, tries), bool)
    fresh[:, 1:] = place[:, 1:] != place[:, :-1]
    # The count-th fresh one in time is the last that is taken.
    when = np.sort(np.where(fresh, time, tries), axis=1)
    last = when[np.arange(rows), np.minimum(np.maximum(count - 1, 0), tries - 1)]
    taken = fresh & (time <= last[:, None]) & (count > 0)[:, None]
    chosen = np.zeros((rows, width), bool)
    row, column = np.nonzero(taken)
    chosen[row, place[row, column]] = True
    short = np.flatnonzero((last >= tries) | (count > tries))
    if len(short):
        inside = np.arange(width) < bound[short, None]
        chosen[short] = choose(draw(width, part + 1)[short], inside, count[short])
    return chosen


def _smallest(scores: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The count-th smallest score of each row, [B, 1]."""
    wanted = np.maximum(count - 1, 0)
    few = np.unique(wanted)
    ranked = np.partition(scores, few, axis=1) if len(few) <= 3 else np.sort(scores, axis=1)
    return ranked[np.arange(len(scores)), wanted][:, None]


def poisson(raw: np.ndarray, mean: float) -> np.ndarray:
    """int64, Poisson distributed, by inversion of its table."""
    terms = [math.exp(-mean)]
    while len(terms) < mean or terms[-1] > 1e-18:
        terms.append(terms[-1] * mean / len(terms))
    return np.searchsorted(np.cumsum(terms)[:-1], uniform(raw), side="right")


def harmonic(raw: np.ndarray, longest: int) -> np.ndarray:
    """int64 in 1..longest with probability proportional to 1/n (the n-grams of ALBERT and XLNet)."""
    weights = 1 / np.arange(1, longest + 1)
    return 1 + np.searchsorted(np.cumsum(weights / weights.sum())[:-1], uniform(raw), side="right")
