"""The factor between two laws at stated budgets: what the second one needs for the lowest loss of the first one's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from trainer.scaling.efficiency.joint import JointFit
from trainer.scaling.efficiency.replicates import Replicates
from trainer.scaling.efficiency.sides import Sides
from trainer.scaling.fit.resampling import Interval, interval

SIZES, BUDGETS = 61, 121  # of the grids over log N and log C
REACH = 4.0  # of the budgets beyond both ends, as a power of ten
FlopPerToken = tuple[float, float]  # (level, power): log of the FLOPs of a token = level + power log N


def factors_at(found: Sides, alone: list[JointFit], again: Replicates) -> list[tuple[float, Interval]]:
    """(FLOPs, factor) at the ends and the middle of what both sides cover, by a law of each side's own."""
    low, high = found.common
    budgets = np.array([low, np.sqrt(low * high), high])
    grid = np.linspace(np.log(low) - REACH * np.log(10), np.log(high) + REACH * np.log(10), BUDGETS)
    lowest = []
    for one, side in zip(alone, (~found.second, found.second), strict=True):
        if found.form == "sizes":
            lowest.append(frontier(partial(one.law.loss_at, one.all), _flop_rule(found, side), grid))
        else:
            lowest.append(one.law.loss_at(one.all, grid[:, None]))
    runs, constants = len(found.table.runs), sum(one.constants for one in alone)
    return between(lowest[0], lowest[1], grid, budgets, lambda values: again.interval(values, runs, constants))


def frontier(loss_at: Callable[[np.ndarray], np.ndarray], rule: FlopPerToken, log_flop: np.ndarray) -> np.ndarray:
    """[B, m]: the lowest loss of each budget over all sizes. loss_at: [points, 2] of log N and log D -> [B, points]."""
    level, power = rule
    shape = (len(log_flop), SIZES)
    log_n = (log_flop - level)[:, None] / (1 + power) + np.linspace(-9, 9, SIZES)
    log_d = log_flop[:, None] - level - power * log_n
    points = np.stack([log_n.ravel(), log_d.ravel()], axis=1)
    loss = loss_at(points)
    along = loss.reshape(len(loss), *shape)
    best = np.clip(along.argmin(axis=2), 1, SIZES - 2)[:, :, None]
    left, middle, right = (np.take_along_axis(along, best + step, axis=2)[:, :, 0] for step in (-1, 0, 1))
    bend = np.maximum(left - 2 * middle + right, 1e-300)
    return middle - (left - right) ** 2 / (8 * bend)  # the vertex of a parabola through the three lowest


def between(
    first: np.ndarray,
    second: np.ndarray,
    log_flop: np.ndarray,
    budgets: np.ndarray,
    interval_of: Callable[[np.ndarray], Interval] = lambda values: interval(values[0], values[1:]),
) -> list[tuple[float, Interval]]:
    """(FLOPs, factor) at budgets, of lowest losses [1 + R, m] along log_flop [m]; nan where none of the second's
    budgets reaches the first one's loss."""
    found = []
    for budget in budgets:
        at = np.log(budget)
        goal = np.array([np.interp(at, log_flop, row) for row in first])
        beside = zip(goal, second, strict=True)
        needed = np.array([np.interp(-want, -row, log_flop, left=np.nan, right=np.nan) for want, row in beside])
        figure = interval_of(needed - at)
        found.append((float(budget), Interval(*(float(np.exp(value)) for value in figure))))
    return found


def _flop_rule(found: Sides, side: np.ndarray) -> FlopPerToken:
    """By least squares over a side's runs."""
    size = np.log(found.table.column("parameters")[side])
    each = np.log(found.table.column("flop")[side] / found.table.column("tokens")[side])
    if np.ptp(size) < 1e-9:
        return float(each.mean() - size.mean()), 1.0
    power, level = np.polyfit(size, each, 1)
    return float(level), float(power)
