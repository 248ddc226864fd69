"""The loss around the best settings: one surface through the runs of all sizes and tokens at once.

At a place (N, D) the loss of settings z = (log lr, log batch) is

    log L = log L*(N, D) + f x [e^a X(w, k) + e^b X(v, l)],    u, v = z - z*(N, D),    w = u - s v - t v^2

with X(z, k) = 2 (e^(k z) - k z - 1) / k^2, a parabola that rises faster on one side: rates that are too high cost more
than rates that are too low. s and t are how the best rate follows the batch near the optimum, f = N^p D^q how the
valley widens. The optimum z* is linear in log N and log D, L* is free at every place. One setting alone has the first
term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trainer.scaling.settings.points import Points

# What is believed of the shape before any run is seen: weak, so that small sweeps are determined. Mean and deviation.
PRIOR = {
    "a": (np.log(0.008), 1.5),
    "k": (0.5, 0.5),
    "p": (0.0, 0.2),
    "q": (-0.1, 0.2),
    "b": (np.log(0.006), 1.5),
    "l": (0.0, 0.3),
    "s": (0.35, 0.3),
    "t": (0.0, 0.2),
}
ONE_SETTING = 4  # constants of the shape that one setting alone has
STEPS = 30  # of Levenberg-Marquardt
STEEPEST = 12.0  # exponent where X is cut off
WINDOW = 0.02  # rows whose log loss is less above the best of their place take part, the more the nearer they are
ROUNDS, ROUNDS_AFTER = 5, 3  # of choosing rows by the surface itself; from constants of nearly the same runs
FEWEST_NEAR = {1: 4, 2: 8}  # rows of a place that take part in any case, by the number of settings
LEAST_WEIGHT = 0.02  # of a row at the edge of the window
NOISES = 4.0  # a window is at least so many deviations of the noise


def asymmetric(z: np.ndarray, k: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X(z, k) and its derivatives by z and by k."""
    if abs(k) < 1e-3:
        return z**2 * (1 + k * z / 3), 2 * z * (1 + k * z / 2), z**3 / 3 + k * z**4 / 6
    kz = np.clip(k * z, -STEEPEST, STEEPEST)
    power = np.exp(kz)
    value = 2 * (power - kz - 1) / k**2
    return value, 2 * (power - 1) / k, 2 * kz / k * (power - 1) / k**2 - 2 * value / k


@dataclass(frozen=True)
class Terms:
    """Which powers the optimum of each setting has: columns of (1, log N, log D)."""

    columns: tuple[tuple[int, ...], ...]  # for each setting

    @property
    def count(self) -> int:
        return sum(map(len, self.columns))

    def optimum(self, theta: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """theta [..., p], logs [m, 3] of 1, n, d -> optima [..., m, settings]."""
        found, first = [], 0
        for columns in self.columns:
            found.append(theta[..., first : first + len(columns)] @ logs[:, list(columns)].T)
            first += len(columns)
        return np.stack(found, axis=-1)

    def full(self, theta: np.ndarray) -> np.ndarray:
        """Coefficients of (1, n, d) for each setting: [..., settings, 3], zero where a term is left out."""
        full, first = np.zeros((*theta.shape[:-1], len(self.columns), 3)), 0
        for number, columns in enumerate(self.columns):
            full[..., number, list(columns)] = theta[..., first : first + len(columns)]
            first += len(columns)
        return full


class Fit(NamedTuple):
    """Constants of the optima and of the shape behind them, and the rows that decided."""

    theta: np.ndarray
    rows: np.ndarray  # indices
    weights: np.ndarray  # of every run: 1 at the best, 0 from the edge of the window on
    residual: np.ndarray  # of those rows: log loss minus the surface
    noise: float  # robust deviation of the residuals


def surface(theta: np.ndarray, terms: Terms, logs: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What settings z [m, settings] cost above the best, in log loss [m], and the derivatives [m, p]."""
    away = z - terms.optimum(theta, logs)
    constants = theta[terms.count :]
    a, k, p, q = constants[:ONE_SETTING]
    f = np.exp(p * logs[:, 1] + q * logs[:, 2])
    u, first = away[:, 0], np.exp(a) * f
    if z.shape[1] == 1:
        value, by_w, by_k = (first * part for part in asymmetric(u, k))
        slopes = [value, by_k, value * logs[:, 1], value * logs[:, 2]]
        return value, np.column_stack([-by_w[:, None] * logs[:, list(terms.columns[0])], *slopes])
    b, skew, s, t = constants[ONE_SETTING:]
    v, second = away[:, 1], np.exp(b) * f
    one, by_w, by_k = (first * part for part in asymmetric(u - s * v - t * v**2, k))
    other, by_v, by_skew = (second * part for part in asymmetric(v, skew))
    value = one + other
    by_centre = (-by_w, by_w * (s + 2 * t * v) - by_v)
    return value, np.column_stack(
        [slope[:, None] * logs[:, list(columns)] for slope, columns in zip(by_centre, terms.columns, strict=True)]
        + [one, by_k, value * logs[:, 1], value * logs[:, 2], other, by_skew, -by_w * v, -by_w * v**2]
    )


def fit_surface(points: Points, terms: Terms, window: float = WINDOW, start: np.ndarray | None = None) -> Fit:
    """The surface through the runs near the best of each place.

    Rows are chosen by their loss first, then by the surface itself, so that luck does not choose them. start: constants
    to begin at, which spares steps.
    """
    theta, noise = _start(points, terms) if start is None else start, window / NOISES
    least = np.maximum(window, points.smallest_excess(FEWEST_NEAR[len(terms.columns)]))
    rows = np.flatnonzero(points.excess <= least[points.place])
    weights = np.ones(len(points.loss))
    rounds = ROUNDS if start is None else ROUNDS_AFTER
    for number in range(rounds):
        theta, residual = descend(points, terms, theta, rows, weights, noise)
        noise = float(np.clip(1.4826 * np.median(np.abs(residual)), 2e-4, 0.05))
        limit = np.maximum(least, NOISES * noise)[points.place]
        predicted = surface(theta, terms, points.logs, points.settings)[0]
        chosen = np.flatnonzero((predicted <= limit) & (points.excess <= 1.5 * limit + NOISES * noise))
        if number == rounds - 1 or len(chosen) < len(theta):
            break
        rows, weights = chosen, np.clip(1 - predicted / limit, LEAST_WEIGHT, 1)
    return Fit(theta, rows, weights, residual, noise)


def _start(points: Points, terms: Terms) -> np.ndarray:
    """Powers through the best run of each place, and the shape that is believed in."""
    best = points.best
    powers = [
        np.linalg.lstsq(points.logs[best][:, list(columns)], points.settings[best, number], rcond=None)[0]
        for number, columns in enumerate(terms.columns)
    ]
    return np.concatenate([*powers, _prior(terms)[0]])


def _prior(terms: Terms) -> tuple[np.ndarray, np.ndarray]:
    count = ONE_SETTING if len(terms.columns) == 1 else len(PRIOR)
    mean, deviation = np.array(list(PRIOR.values())[:count]).T
    return mean, deviation


def descend(
    points: Points,
    terms: Terms,
    theta: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    noise: float,
    steps: int = STEPS,
) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg-Marquardt with Huber's weights; the best loss of each place is solved for. Returns the constants and
    the residuals of the rows."""
    places, logs, z, y, given = (
        array[rows] for array in (points.place, points.logs, points.settings, points.log_loss, weights)
    )
    count = int(points.place.max()) + 1
    mean, deviation = _prior(terms)
    pull = np.concatenate([np.zeros(terms.count), (noise / deviation) ** 2])
    centre = np.concatenate([np.zeros(terms.count), mean])

    def level(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Without the weighted mean of each place."""
        total = np.maximum(np.bincount(places, weights, count), 1e-12)
        columns = values.reshape(len(values), -1)
        means = np.stack([np.bincount(places, weights * column, count) / total for column in columns.T], axis=1)
        return (columns - means[places]).reshape(values.shape)

    def objective(residual: np.ndarray, theta: np.ndarray) -> float:
        size = np.abs(residual)
        huber = np.where(size <= noise, size**2, noise * (2 * size - noise))
        return float((given * huber).sum() + (pull * (theta - centre) ** 2).sum())

    pulled, damping = given, 1e-3
    value, slopes = surface(theta, terms, logs, z)
    residual = level(y - value, pulled)
    now = objective(residual, theta)
    for _ in range(steps):
        pulled = given * np.minimum(1.0, noise / np.maximum(np.abs(residual), 1e-12))
        residual = level(y - value, pulled)
        flat = level(slopes, pulled)
        gradient = (flat * pulled[:, None]).T @ residual - pull * (theta - centre)
        curvature = (flat * pulled[:, None]).T @ flat + np.diag(pull)
        system = curvature + np.diag(damping * np.diag(curvature) + 1e-15)
        trial = theta + np.clip(np.linalg.solve(system, gradient), -1, 1)
        new_value, new_slopes = surface(trial, terms, logs, z)
        new_residual = level(y - new_value, pulled)
        new = objective(new_residual, trial)
        if new < now:
            done = now - new < 1e-6 * now
            theta, value, slopes, residual, now = trial, new_value, new_slopes, new_residual, new
            damping = max(damping / 5, 1e-9)
            if done:
                break
        else:
            damping *= 6
            if damping > 1e6:
                break
    return theta, residual
