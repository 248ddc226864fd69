"""Where the best setting stood at each size, how it drifts from one to the next, and what taking it over costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.scaling.transfer.optimum import LEVEL, Optimum, noise, optimum, profiles
from trainer.scaling.transfer.points import Points
from trainer.utils.errors import UserError

AXES = ("parameters", "tokens", "width", "depth")
FEWEST_TO_DRAW = 6  # places, from which on they are drawn with replacement too
ALIKE = 0.999  # correlation of two axes from which on they cannot be told apart


@dataclass(frozen=True)
class Drift:
    """How the best value follows one axis, the others that are beside it held."""

    axis: str
    exponent: float  # value ~ axis ^ exponent
    interval: tuple[float, float] | None
    along: tuple[str, ...]  # all axes of the same fit
    places: int


@dataclass(frozen=True)
class Lost:
    """Loss above the lowest, where another size's best value is used; None where it was not tried."""

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Series:
    """The sizes of one optimizer and one parametrization, the cheapest first."""

    name: str
    optima: tuple[Optimum, ...]
    drifts: tuple[Drift, ...]
    lost: tuple[Lost, ...]  # of each size with the best value of the cheapest
    notes: tuple[str, ...]

    @property
    def step(self) -> float:
        """The usual ratio of neighbouring values, as a logarithm to base 2."""
        return float(np.nanmedian([one.profile.step for one in self.optima]))

    @property
    def moved(self) -> float:
        """Grid steps from the lowest to the highest best value among those inside of what was tried."""
        inside = [one.log_value for one in self.optima if not one.profile.edge]
        return (max(inside) - min(inside)) / math.log(2) / self.step if len(inside) > 1 else math.nan


@dataclass(frozen=True)
class Transfer:
    points: Points
    series: tuple[Series, ...]


def transfer(points: Points, seed: int = 0) -> Transfer:
    """Raises UserError where nothing has two sizes, or no size two values."""
    by_series: dict[str, list[Any]] = {}
    for point in points.points:
        by_series.setdefault(point.series, []).append(point)
    found = tuple(_series(name, some, np.random.default_rng(seed)) for name, some in sorted(by_series.items()))
    told = tuple(one for one in found if len(one.optima) > 1)
    if not told:
        sizes = max(len(one.optima) for one in found)
        raise UserError(
            f"transfer: {sizes} size{'s' * (sizes > 1)} in {len(points.points)} runs; two or more of one optimizer and "
            "parametrization wanted"
        )
    if not any(len(one.profile.values) > 1 for series in told for one in series.optima):
        raise UserError(f"transfer: {points.setting} has one value at every size; sweep it, e.g. 3 to 8 values a size")
    return Transfer(points, told)


def _series(name: str, points: Sequence[Any], chance: np.random.Generator) -> Series:
    found = profiles(points)
    known = noise(found)
    spreads = None if known is None else known.resampled(chance)
    optima = tuple(optimum(one, spreads, chance) for one in found)
    notes = []
    edges = [one for one in optima if one.profile.edge]
    if edges:
        notes.append(
            f"{len(edges)} of {len(optima)} sizes have their lowest loss at the end of what was tried, and the best "
            "lies there or beyond; they take no part in the drift"
        )
    if known is None:
        notes.append("no intervals: no seed was repeated, and no size has five values about its best")
    if diverged := sum(math.isinf(point.loss) for point in points):
        notes.append(f"{diverged} runs diverged; their values count as tried")
    if (others := max(one.others for one in found)) > 1:
        notes.append(f"at every value the best of up to {others} settings of all else is taken")
    first = optima[0]
    lost = tuple(_lost(one, first) for one in optima)
    if first.profile.edge:
        notes.append("the cheapest size's best is at the end of what was tried: what taking it over costs is a guess")
    drifts, told = _drifts(optima, chance)
    return Series(name, optima, drifts, lost, (*notes, *told))


def _lost(one: Optimum, first: Optimum) -> Lost:
    value = float(one.lost(np.array([first.log_value]))[0])
    if math.isnan(value):
        return Lost(None, None)
    if first.draws is None:
        return Lost(value, None)
    drawn = one.lost(first.draws)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Lost(value, None)
    low, high = np.percentile(drawn, LEVEL)
    return Lost(value, (min(float(low), value), max(float(high), value)))


# --- drift ---


def _drifts(optima: Sequence[Optimum], chance: np.random.Generator) -> tuple[tuple[Drift, ...], list[str]]:
    """Along parameters and tokens; and, where they are known and do not grow together, along width and depth."""
    inside = [one for one in optima if not one.profile.edge]
    if len(inside) < 2:
        return (), ["no drift: fewer than two sizes have their best inside of what was tried"]
    logs = {axis: np.log([getattr(one.profile, axis) for one in inside]) for axis in AXES}
    vary = {axis: bool(np.isfinite(values).all() and np.ptp(values) > 0.05) for axis, values in logs.items()}
    notes, found = [], list[Drift]()
    # Width and depth beside tokens tell more than parameters do, where they can be told apart.
    for first in (("parameters",), ("width", "depth")):
        axes = [axis for axis in (*first, "tokens") if vary[axis]]
        if not any(axis in first for axis in axes) and not (first == ("parameters",) and axes):
            continue
        for one, other in (("width", "depth"), *((axis, "tokens") for axis in first)):
            if one in axes and other in axes and abs(np.corrcoef(logs[one], logs[other])[0, 1]) > ALIKE:
                notes.append(f"{one} and {other} grow together: drift along {one} is along both")
                axes.remove(other)
        if len(inside) <= len(axes):
            notes.append(f"no drift along {' and '.join(axes)}: {len(inside)} sizes, {len(axes) + 1} wanted")
            continue
        found += _regressed(inside, axes, logs, chance)
    return tuple(found), list(dict.fromkeys(notes))


def _regressed(
    optima: Sequence[Optimum], axes: Sequence[str], logs: dict[str, np.ndarray], chance: np.random.Generator
) -> list[Drift]:
    matrix = np.stack([np.ones(len(optima)), *(logs[axis] - logs[axis].mean() for axis in axes)], axis=1)
    values = np.array([one.log_value for one in optima])
    exponents = np.linalg.lstsq(matrix, values, rcond=None)[0][1:]
    intervals: list[tuple[float, float] | None] = [None] * len(axes)
    draws = [one.draws for one in optima if one.draws is not None]
    if len(draws) == len(optima):
        drawn = np.stack(draws, axis=1)
        rows = np.tile(np.arange(len(optima)), (len(drawn), 1))
        if len(optima) >= FEWEST_TO_DRAW:
            rows = chance.integers(len(optima), size=rows.shape)
        solved = np.linalg.pinv(matrix[rows]) @ np.take_along_axis(drawn, rows, axis=1)[:, :, None]
        low, high = np.percentile(solved[:, 1:, 0], LEVEL, axis=0)
        intervals = [
            (min(float(a), float(x)), max(float(b), float(x))) for a, b, x in zip(low, high, exponents, strict=True)
        ]
    return [
        Drift(axis, float(exponent), interval, tuple(axes), len(optima))
        for axis, exponent, interval in zip(axes, exponents, intervals, strict=True)
    ]


# --- as plain data ---


def transfer_json(found: Transfer) -> dict[str, Any]:
    """What `isoflop transfer --json` prints and transfer.json holds; amounts that are not known are null."""
    points = found.points
    return {
        "setting": points.setting,
        "parameters": points.counts,
        "series": [_series_json(series) for series in found.series],
        "left_out": [{"run": name, "why": why} for name, why in points.left_out],
    }


def _series_json(series: Series) -> dict[str, Any]:
    places = [
        {axis: _known(getattr(one.profile, axis)) for axis in AXES}
        | {
            "runs": one.profile.runs,
            "tried": one.profile.values.tolist(),
            "losses": [_known(loss) for loss in one.profile.losses],
            "best": _interval(one.value, one.interval),
            "edge": one.profile.edge or None,
            "lost": _interval(lost.value, lost.interval),
        }
        for one, lost in zip(series.optima, series.lost, strict=True)
    ]
    drift = [
        {
            "axis": one.axis,
            "beside": [axis for axis in one.along if axis != one.axis],
            "places": one.places,
            "exponent": _interval(one.exponent, one.interval),
            "grid_steps_per_doubling": _interval(
                one.exponent / series.step, one.interval and tuple(bound / series.step for bound in one.interval)
            ),
        }
        for one in series.drifts
    ]
    return {
        "series": series.name,
        "grid_step": 2**series.step,
        "moved_grid_steps": _known(series.moved),
        "places": places,
        "drift": drift,
        "notes": list(series.notes),
    }


def _interval(value: float | None, bounds: Any) -> dict[str, float | None]:
    low, high = bounds or (None, None)
    return {"value": value, "low": low, "high": high}


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
