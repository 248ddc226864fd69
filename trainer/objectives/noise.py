"""Counter-based randomness: every draw is a pure function of (seed, purpose, index).

The bits come from Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), whose raw stream numpy
keeps stable between releases. Everything above the bits (floats, permutations, tables) is ours, so that an order or a noise
never moves with a numpy release.
"""

from __future__ import annotations

import numpy as np

# A purpose is a stream of its own; the numbers are part of the identity of a run and never change their meaning.
PURPOSES = {"order": 1, "noise": 2, "partner": 3, "mixture": 4}


def bits(seed: int, purpose: str, index: int, count: int) -> np.ndarray:
    """`count` uint64 of the stream (seed, purpose, index)."""
    key = np.array([seed, PURPOSES[purpose]], np.uint64)
    counter = np.array([0, 0, 0, index], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)
