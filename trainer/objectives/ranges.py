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


def without_numbers(values: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """values, but those at the places `dropped`."""
    keep = np.ones(len(values), bool)
    keep[dropped] = False
    return values[keep]


def put_among(values: np.ndarray, places: np.ndarray, inserted: int | np.ndarray) -> np.ndarray:
    """An array with `inserted` at these places and the values, in their order, at all others."""
    others = np.ones(len(values) + len(places), bool)
    others[places] = False
    found = np.empty(len(others), values.dtype)
    found[others] = values
    found[places] = inserted
    return found


def row_counts(flags: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64 [rows]: how many flags are set in rows of these lengths, which lie end to end."""
    places, ends = np.flatnonzero(flags), lengths.cumsum()
    return places.searchsorted(ends) - places.searchsorted(ends - lengths)
