"""A law of the best learning rate and batch over parameters and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trainer.scaling.fit.resampling import Interval
from trainer.scaling.settings.points import Points, relative
from trainer.scaling.settings.surface import Fit, Terms, descend, fit_surface
from trainer.utils.errors import UserError

REPLICATES = 200
DEVIATIONS = 1.96  # of a 95% interval
FEWEST_FOR_TWO = 5  # places for powers of parameters and of tokens at once
APART = 0.15  # log N must move so far where log D is held, to tell the two apart
REPLICATE_STEPS = 4  # from the constants of all places to those of a replicate


class Power(NamedTuple):
    """setting = k N^a D^b with 95% intervals; an exponent that was left out is 0 without an interval."""

    k: Interval
    a: Interval
    b: Interval


@dataclass(frozen=True)
class SettingsLaw:
    """Powers of N and D for the best settings. Logarithms are natural ones."""

    names: tuple[str, ...]  # "lr", "batch"
    coefficients: np.ndarray  # [settings, 3]: of 1, log N, log D relative to the middle
    covariance: np.ndarray  # [settings, 3, 3], by the bootstrap over places
    scatter: np.ndarray  # [settings]: deviation of the best runs of places from the law
    middle: tuple[float, float]  # log N, log D
    parameters: tuple[float, float]  # smallest and largest that it was fitted to
    tokens: tuple[float, float]
    batch_unit: str
    counts: str

    def at(self, parameters: float, tokens: float) -> np.ndarray:
        """Logarithms of the best settings [settings]."""
        values: np.ndarray = self.coefficients @ self._logs(parameters, tokens)
        return values

    def deviation(self, parameters: float, tokens: float) -> np.ndarray:
        """Standard deviation of those [settings]: of the law itself and of a place around it."""
        logs = self._logs(parameters, tokens)
        spread: np.ndarray = np.sqrt(np.einsum("i,sij,j->s", logs, self.covariance, logs) + self.scatter**2)
        return spread

    def _logs(self, parameters: float, tokens: float) -> np.ndarray:
        return relative(np.array([parameters]), np.array([tokens]), self.middle)[0]

    def powers(self) -> dict[str, Power]:
        """Constants and exponents of each setting."""
        found = {}
        origin = np.array([1.0, -self.middle[0], -self.middle[1]])
        for name, line, covariance in zip(self.names, self.coefficients, self.covariance, strict=True):
            log_k, spread = float(origin @ line), float(np.sqrt(origin @ covariance @ origin))
            k = Interval(*(float(np.exp(log_k + side * DEVIATIONS * spread)) for side in (0, -1, 1)))
            found[name] = Power(k, *(_exponent(line[i], covariance[i, i]) for i in (1, 2)))
        return found

    def outside(self, parameters: float, tokens: float) -> dict[str, float]:
        """By what factor a place lies beyond the places that were fitted, along each axis; empty inside."""
        factors = {}
        for name, value, (low, high) in (
            ("parameters", parameters, self.parameters),
            ("tokens", tokens, self.tokens),
        ):
            if value > high * 1.001:
                factors[name] = value / high
            elif value < low / 1.001:
                factors[name] = value / low
        return factors


def _exponent(value: float, variance: float) -> Interval:
    spread = DEVIATIONS * float(np.sqrt(variance))
    return Interval(float(value), float(value) - spread, float(value) + spread)


def settings_at(law: SettingsLaw, parameters: float, tokens: float) -> dict[str, Any]:
    """{"lr": {"value", "low", "high"}, "batch": {"value", "low", "high", "unit"}}: the best settings of a run, with the
    95% interval of where the best of a sweep there would be found."""
    values, spread = law.at(parameters, tokens), DEVIATIONS * law.deviation(parameters, tokens)
    found: dict[str, Any] = {}
    for name, value, wide in zip(law.names, values, spread, strict=True):
        sides = {"value": value, "low": value - wide, "high": value + wide}
        found[name] = {side: float(np.exp(log)) for side, log in sides.items()}
        if name == "batch":
            found[name]["unit"] = law.batch_unit or None
    return found


def possible_terms(points: Points) -> list[Terms]:
    """The powers that these places can tell apart, those with more of them first."""
    logs = points.logs[points.best]
    sizes, lengths = (len(np.unique(logs[:, column].round(2))) for column in (1, 2))
    if sizes < 2 and lengths < 2:
        raise UserError("settings: every run has one size and one number of tokens; a law needs several of either")
    if _independent(logs):
        full = [Terms(((0, 1, 2),) * len(points.names))]
        # Whether the best batch depends on the size as well is disputed (Li et al. 2025: on tokens alone).
        alone = [Terms(tuple((0, 2) if name == "batch" else (0, 1, 2) for name in points.names))]
        return full + alone * ("batch" in points.names)
    usual = {"lr": (0, 1) if sizes > 1 else (0, 2), "batch": (0, 2) if lengths > 1 else (0, 1)}
    return [Terms(tuple(usual[name] for name in points.names))]


def _independent(logs: np.ndarray) -> bool:
    """Whether log N moves where log D is held, and the other way around."""
    if len(logs) < FEWEST_FOR_TWO:
        return False
    for one, other in ((1, 2), (2, 1)):
        line = logs[:, [0, other]]
        rest = logs[:, one] - line @ np.linalg.lstsq(line, logs[:, one], rcond=None)[0]
        if rest.std() < APART:
            return False
    return True


def fit_law(points: Points, terms: Terms, *, replicates: int = REPLICATES, seed: int = 0) -> tuple[SettingsLaw, Fit]:
    """The law through all places, with intervals by a bootstrap over places; and the surface that it is from."""
    fit = fit_surface(points, terms)
    again = _replicates(points, terms, fit, replicates, seed)
    lines = terms.full(again[:, : terms.count])
    covariance = np.stack([_covariance(lines[:, number]) for number in range(len(points.names))])
    law = SettingsLaw(
        points.names,
        terms.full(fit.theta[: terms.count]),
        covariance,
        np.zeros(len(points.names)),
        points.middle,
        (float(points.parameters.min()), float(points.parameters.max())),
        (float(points.tokens.min()), float(points.tokens.max())),
        points.batch_unit,
        points.counts,
    )
    return law, fit


def _replicates(points: Points, terms: Terms, fit: Fit, count: int, seed: int) -> np.ndarray:
    random, number = np.random.default_rng(seed), len(points.best)
    found = []
    for _ in range(count):
        drawn = random.multinomial(number, np.full(number, 1 / number))
        weights = fit.weights * drawn[points.place]
        found.append(descend(points, terms, fit.theta, fit.rows, weights, fit.noise, REPLICATE_STEPS)[0])
    return np.array(found)


def _covariance(lines: np.ndarray) -> np.ndarray:
    """Of replicates [R, 3], those that ran away cut off."""
    middle = np.median(lines, axis=0)
    wide = 1.4826 * np.median(np.abs(lines - middle), axis=0)
    return np.cov(np.clip(lines, middle - 4 * wide, middle + 4 * wide), rowvar=False)
