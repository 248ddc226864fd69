"""Shares of a machine's peaks from measured steps: the least relative error, in few robust steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from trainer.books.clock import roofline
from trainer.books.efficiency import Efficiency
from trainer.books.step_work import Work, work
from trainer.config import Config

NAMES = ("products", "scores", "memory")
LOWEST, HIGHEST = 0.03, 1.0  # between which a share is looked for
TOLERANCE = 0.1  # relative; a row that is further off counts no more than this (Huber 1964)


class Timed(NamedTuple):
    """One measured step."""

    config: Config
    work: Work
    seconds: float
    name: str = ""  # of the row


def timed(config: Config, seconds: float, name: str = "") -> Timed:
    return Timed(config, work(config), seconds, name)


def ratio(row: Timed, shares: Efficiency) -> float:
    """Planned over measured time."""
    return roofline(row.config, row.work, shares) / row.seconds


def fit_shares(rows: Sequence[Timed], start: Efficiency, names: Sequence[str] = NAMES) -> Efficiency:
    """`start` with those of its shares that explain the rows best, found one after another by ever smaller steps."""
    best, error = start, _error(rows, start)
    step = 0.3
    while step > 0.004:
        better = False
        for name in names:
            for factor in (1 + step, 1 / (1 + step)):
                value = min(HIGHEST, max(LOWEST, getattr(best, name) * factor))
                tried = replace(best, **{name: value})
                if (found := _error(rows, tried)) < error - 1e-12:
                    best, error, better = tried, found, True
        if not better:
            step /= 2
    return replace(best, rows=len(rows))


def _error(rows: Sequence[Timed], shares: Efficiency) -> float:
    return sum(_huber(math.log(ratio(row, shares))) for row in rows) / len(rows)


def _huber(value: float) -> float:
    size = abs(value)
    return value**2 / 2 if size < TOLERANCE else TOLERANCE * (size - TOLERANCE / 2)


def spread(ratios: Sequence[float], share: float = 0.9) -> tuple[float, float]:
    """(faster, slower): factors that hold `share` of the measured times of these planned over measured ones, as many
    left out on either side."""
    ordered, out = sorted(ratios), int(len(ratios) * (1 - share) / 2 + 1e-9)
    return max(1.0, ordered[-1 - out]), max(1.0, 1 / ordered[out])


def middle(ratios: Sequence[float]) -> float:
    return median(ratios)
