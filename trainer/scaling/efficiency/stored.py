"""Two laws without their runs: the factor between them at stated budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from trainer.scaling.efficiency.budgets import REACH, between, frontier
from trainer.scaling.fit.resampling import Interval
from trainer.utils.errors import UserError

BUDGETS = 121
SIX = (float(np.log(6.0)), 1.0)  # C = 6 N D


@dataclass(frozen=True)
class StoredLaw:
    """A law from a file: its lowest loss along compute."""

    label: str
    title: str  # formula and form
    counts: str  # which N it counts
    loss_unit: str
    flop: tuple[float, float]  # least and most of the runs that it was fitted to
    lowest: Callable[[np.ndarray], np.ndarray]  # log FLOPs [m] -> loss [1 + R, m]


@dataclass(frozen=True)
class StoredFactor:
    """What the second law needs for the lowest loss of the first."""

    labels: tuple[str, str]
    titles: tuple[str, str]
    common: tuple[float, float]
    at: list[tuple[float, Interval]]
    curves: tuple[np.ndarray, np.ndarray, np.ndarray]  # log FLOPs [m], lowest losses [m] of both
    doubts: list[str] = field(default_factory=list)


def stored_factor(first: StoredLaw, second: StoredLaw) -> StoredFactor:
    """Raises UserError where the losses are not one scale or no compute is common to both."""
    if first.loss_unit != second.loss_unit:
        raise UserError(
            f"compare: losses of {first.label} are in {first.loss_unit}, those of {second.label} in "
            f"{second.loss_unit}: not one scale"
        )
    low, high = max(first.flop[0], second.flop[0]), min(first.flop[1], second.flop[1])
    if low > 1.05 * high:
        raise UserError(f"compare: {first.label} and {second.label} cover no compute in common: no factor between them")
    grid = np.linspace(np.log(low) - REACH * np.log(10), np.log(high) + REACH * np.log(10), BUDGETS)
    rows = [one.lowest(grid) for one in (first, second)]
    count = min(map(len, rows))
    at = between(rows[0][:count], rows[1][:count], grid, np.array([low, np.sqrt(low * high), high]))
    doubts = []
    if first.counts != second.counts:
        doubts.append(f"N is not the same: {first.counts} against {second.counts}")
    figures = [figure for _, figure in at if np.isfinite(figure.low)]
    if figures and max(one.low for one in figures) > min(one.high for one in figures):
        each = [figure.value for figure in figures]
        doubts.append(f"one factor does not say it: {min(each):.3g} to {max(each):.3g} along compute")
    if count == 1:
        doubts.append("a law keeps no replicates: its factor has no interval")
    labels, titles = (first.label, second.label), (first.title, second.title)
    return StoredFactor(labels, titles, (low, high), at, (grid, rows[0][0], rows[1][0]), doubts)


def lowest_of_sizes(loss_at: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Of a law of parameters and tokens the lowest loss along compute, by C = 6 N D."""

    def lowest(log_flop: np.ndarray) -> np.ndarray:
        return frontier(lambda logs: loss_at(np.exp(logs[:, 0]), np.exp(logs[:, 1])), SIX, log_flop)

    return lowest
