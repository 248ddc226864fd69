"""Where a setting is best at one size: a parabola of the loss over the setting's logarithm, near the lowest loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainer.scaling.transfer.points import Point

NEAR = 0.02  # losses within this share of the lowest belong to the parabola
MOST = 3  # values on each side of the lowest
REPLICATES = 400
LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class Profile:
    """What was tried at one size: the setting's values, lowest first, and the losses with the best of all else."""

    parameters: float
    tokens: float
    width: float
    depth: float
    values: np.ndarray  # [n]
    losses: np.ndarray  # [n], means over seeds, inf where one diverged
    seeds: np.ndarray  # [n], runs that each mean is of
    squares: float  # sum of squared deviations of seeds from their means
    freedom: int  # degrees of freedom of that
    runs: int
    others: int  # most settings of all else that one value was tried with

    @property
    def best(self) -> int:
        return int(np.argmin(self.losses))

    @property
    def edge(self) -> str:
        """lowest or highest, where the best value is the end of what was tried; else nothing."""
        if len(self.values) == 1:
            return "only"
        return {0: "lowest", len(self.values) - 1: "highest"}.get(self.best, "")

    @cached_property
    def near(self) -> slice:
        """The values that the parabola goes through: about the best, neighbours always."""
        limit = self.losses[self.best] + NEAR * abs(self.losses[self.best])
        bounds = []
        for way in (-1, 1):
            at = self.best
            while 0 <= at + way < len(self.values) and abs(at - self.best) < MOST:
                beside = self.losses[at + way]
                if not np.isfinite(beside) or (at != self.best and beside > limit):
                    break
                at += way
            bounds.append(at)
        return slice(bounds[0], bounds[1] + 1)

    @property
    def step(self) -> float:
        """The usual ratio of neighbouring values, as a logarithm to base 2; nan for one value."""
        return float(np.median(np.diff(np.log2(self.values)))) if len(self.values) > 1 else float("nan")


def profiles(points: Sequence[Point]) -> list[Profile]:
    """One for each size and number of tokens, the cheapest first."""
    places: dict[tuple[float, ...], list[Point]] = {}
    for point in points:
        size = np.nan_to_num([point.parameters, point.tokens, point.width, point.depth], nan=-1.0)
        places.setdefault(tuple(size), []).append(point)
    places = {place: some for place, some in places.items() if any(np.isfinite(one.loss) for one in some)}
    cost = {place: place[0] * max(place[1], 1.0) for place in places}
    return [_profile(places[place]) for place in sorted(places, key=lambda place: (cost[place], place))]


def _profile(points: list[Point]) -> Profile:
    """At each value the setting of all else with the lowest mean over its seeds."""
    values: dict[float, dict[str, list[float]]] = {}
    for point in points:
        values.setdefault(point.value, {}).setdefault(point.others, []).append(point.loss)
    kept = {value: min(others.values(), key=lambda losses: float(np.mean(losses))) for value, others in values.items()}
    ordered = sorted(kept)
    every = [losses for others in values.values() for losses in others.values()]
    seeds = [losses for losses in every if len(losses) > 1 and np.isfinite(losses).all()]
    first = points[0]
    return Profile(
        first.parameters,
        first.tokens,
        first.width,
        first.depth,
        np.array(ordered),
        np.array([np.mean(kept[value]) for value in ordered]),
        np.array([len(kept[value]) for value in ordered]),
        float(sum(np.sum((np.array(losses) - np.mean(losses)) ** 2) for losses in seeds)),
        sum(len(losses) - 1 for losses in seeds),
        len(points),
        max(len(others) for others in values.values()),
    )


@dataclass(frozen=True)
class Optimum:
    """The best value at one size."""

    profile: Profile
    constants: np.ndarray | None  # of the parabola over the logarithm, highest power first; None: there is none
    centre: float  # where the logarithms are counted from
    value: float
    log_value: float
    draws: np.ndarray | None  # logarithms [replicates]; None where the noise is not known

    @property
    def interval(self) -> tuple[float, float] | None:
        if self.draws is None:
            return None
        low, high = np.exp(np.percentile(self.draws, LEVEL))
        return min(float(low), self.value), max(float(high), self.value)

    def lost(self, log_values: np.ndarray) -> np.ndarray:
        """Loss above this size's lowest with these values instead; nan outside of what was tried, and beside what
        diverged. On the parabola, and beyond it on lines between what was measured."""
        logs, losses, near = np.log(self.profile.values), self.profile.losses, self.profile.near
        measured = np.where(np.isfinite(losses), losses, np.nan)
        found = np.interp(log_values, logs, measured) - losses.min()
        if self.constants is not None:
            lowest = np.polyval(self.constants, self.log_value - self.centre)
            found = np.interp(log_values, logs, measured) - lowest
            inside = (log_values >= logs[near][0]) & (log_values <= logs[near][-1])
            found = np.where(inside, np.polyval(self.constants, log_values - self.centre) - lowest, found)
        tried = (log_values >= logs[0] - 1e-9) & (log_values <= logs[-1] + 1e-9)
        return np.where(tried, np.maximum(found, 0.0), np.nan)


@dataclass(frozen=True)
class Noise:
    """Of one run's loss."""

    spread: float  # standard deviation
    freedom: int  # degrees of freedom that it is known from

    def resampled(self, chance: np.random.Generator) -> np.ndarray:
        """The spread itself is only estimated: values of it, [replicates, 1], as Student's distribution has them."""
        return self.spread * np.sqrt(self.freedom / chance.chisquare(self.freedom, size=(REPLICATES, 1)))


def noise(found: Sequence[Profile]) -> Noise | None:
    """Of seeds, or of what lies off the parabolas, whichever is larger; where neither is known, of what lies off cubic
    curves through the five values about the best. None where that is not known either."""
    known = []
    if freedom := sum(one.freedom for one in found):
        known.append(Noise((sum(one.squares for one in found) / freedom) ** 0.5, freedom))
    inside = [one for one in found if not one.edge]
    about = [(one, slice(max(0, one.best - 2), one.best + 3)) for one in inside]
    about = [(one, window) for one, window in about if np.isfinite(one.losses[window]).all()]
    if (off := _off([(one, one.near) for one in inside], 2)) is not None:
        known.append(off)
    if not known and (off := _off(about, 3)) is not None:
        known.append(off)
    return max(known, key=lambda one: one.spread) if known else None


def _off(windows: Sequence[tuple[Profile, slice]], degree: int) -> Noise | None:
    """What lies off polynomials of this degree through these values."""
    squares, freedom = 0.0, 0
    for profile, window in windows:
        x, y = np.log(profile.values[window] / profile.values[profile.best]), profile.losses[window]
        if len(x) > degree + 1:
            squares += float(np.sum((np.polyval(np.polyfit(x, y, degree), x) - y) ** 2))
            freedom += len(x) - degree - 1
    return Noise((squares / freedom) ** 0.5, freedom) if freedom else None


def optimum(profile: Profile, spreads: np.ndarray | None, chance: np.random.Generator) -> Optimum:
    """The lowest point of the parabola; the best value tried where that is an end, or the parabola has no bottom.

    spreads: standard deviations of one run's loss, [replicates, 1], for the draws."""
    value, logs, near = float(profile.values[profile.best]), np.log(profile.values), profile.near
    centre = float(logs[profile.best])
    if profile.edge or len(logs[near]) < 3:
        return Optimum(profile, None, centre, value, centre, None)
    x, y = logs[near] - centre, profile.losses[near]
    solve = np.linalg.pinv(np.vander(x, 3))
    constants = solve @ y
    draws = None
    if spreads is not None:
        drawn = y + chance.normal(size=(REPLICATES, len(y))) * spreads / np.sqrt(profile.seeds[near])
        draws = centre + _bottoms(drawn @ solve.T, drawn, x)
    log_value = centre + float(_bottoms(constants[None], y[None], x)[0])
    return Optimum(profile, constants if constants[0] > 0 else None, centre, math.exp(log_value), log_value, draws)


def _bottoms(constants: np.ndarray, losses: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[B] where parabolas [B, 3] through losses [B, n] are lowest, within x [n]."""
    lowest = x[np.argmin(losses, axis=1)]
    bends = constants[:, 0] > 0
    bottom = -constants[:, 1] / np.where(bends, 2 * constants[:, 0], 1.0)
    return np.clip(np.where(bends, bottom, lowest), x[0], x[-1])
