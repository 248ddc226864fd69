"""Stretches of a flat array, given by their ends: [begin[0], end[0]), [begin[1], end[1]), and so on, ascending."""

from __future__ import annotations

import numpy as np


def numbers(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """int64: all numbers in the stretches, stretch after stretch."""
    sizes = end - begin
    shifts = (end - sizes.cumsum()).repeat(sizes)  # from the place in the answer to the number
    return shifts + np.arange(len(shifts))


def without(
    begin: np.ndarray, end: np.ndarray, hole_begin: np.ndarray, hole_end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(begin, end) of what remains of the stretches when holes, which lie inside them, are cut out."""
    return np.sort(np.concatenate([begin, hole_end])), np.sort(np.concatenate([hole_begin, end]))
