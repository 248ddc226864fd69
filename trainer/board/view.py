"""The few points of a curve that a screen can show, none of its peaks lost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]


def running_mean(values: Numbers, window: int) -> Numbers:
    """The mean of the last `window` values at each place, of fewer at the beginning; NaNs are left out of it."""
    known = ~np.isnan(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0), dtype=float)])
    counts = np.concatenate([[0], np.cumsum(known)])
    begin = np.maximum(0, np.arange(1, len(values) + 1) - window)
    number = counts[1:] - counts[begin]
    return np.where(number > 0, (sums[1:] - sums[begin]) / np.maximum(number, 1), math.nan)


def stated(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """Both columns without the points whose x is not stated."""
    known = ~np.isnan(x)
    return (x, y) if known.all() else (x[known], y[known])


def visible(x: Numbers, low: float | None, high: float | None) -> slice:
    """The places of an ascending column within [low, high], and one more at either side: lines reach the edge."""
    begin = 0 if low is None else int(np.searchsorted(x, low)) - 1
    end = len(x) if high is None else int(np.searchsorted(x, high, side="right")) + 1
    return slice(max(0, begin), min(len(x), end))


def thinned(x: Numbers, y: Numbers, most: int) -> tuple[Numbers, Numbers]:
    """At most about `most` of the points, in order: of each stretch its lowest and its highest, and both ends.

    A y that is not stated stays a gap while all points are kept.
    """
    if len(x) <= max(most, 4):
        return x, y
    stretches = max(1, (most - 2) // 2)
    size = -(-len(y) // stretches)
    padded = np.full(stretches * size, math.nan)
    padded[: len(y)] = y
    table = padded.reshape(stretches, size)
    first = np.arange(stretches) * size
    lowest = first + np.where(np.isnan(table), math.inf, table).argmin(axis=1)
    highest = first + np.where(np.isnan(table), -math.inf, table).argmax(axis=1)
    kept = np.unique(np.concatenate([[0], lowest, highest, [len(y) - 1]]))
    kept = kept[kept < len(y)]
    return x[kept], y[kept]


def plain(values: Numbers) -> list[float | int | None]:
    """The numbers for JSON: whole ones as such, null where one is not stated; float32 to its seven digits."""
    numbers = values.astype(float)
    if values.dtype == np.float32:
        with np.errstate(divide="ignore", invalid="ignore"):
            unit = 10.0 ** (6 - np.floor(np.log10(np.abs(numbers))))
            rounded = np.round(numbers * unit) / unit
        numbers = np.where(np.isfinite(rounded), rounded, numbers)
    return [_plain(value) for value in numbers.tolist()]


def _plain(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value
