"""Huber regression of many problems at once: every start and every bootstrap replicate is a row of one array."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

DELTA = 1e-3  # where the loss turns from squares to absolute values (Hoffmann et al. 2022, appendix D.3)
SCREENING, REFINING = 25, 400  # steps
SHARED, FINISHING = 25, 60  # steps of replicates with the fit's derivatives, and with their own
TOLERANCE = 1e-12  # relative fall of the objective below which a row rests
ROUGHLY = 1e-6  # the same for replicates, which differ by much more


class Model(Protocol):
    """A curve with unknown constants."""

    low: np.ndarray  # [p], bounds of the constants
    high: np.ndarray

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, p] -> values [B, n] and their derivatives [B, n, p]."""
        ...


class Solution(NamedTuple):
    """The best constants of each problem."""

    theta: np.ndarray  # [B, p]
    objective: np.ndarray  # [B], mean Huber loss


def huber(residual: np.ndarray, delta: float = DELTA) -> np.ndarray:
    """Half the square inside of delta, delta x (|residual| - delta / 2) outside."""
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def screened(
    model: Model, y: np.ndarray, weights: np.ndarray, starts: np.ndarray, keep: int, delta: float = DELTA
) -> np.ndarray:
    """[B, keep, p]: the best of all starts [B, S, p] after a few steps each."""
    problems, count, size = starts.shape
    theta = starts.reshape(-1, size)
    theta, value = _descend(model, y, np.repeat(weights, count, axis=0), theta, SCREENING, delta, TOLERANCE)
    best = np.argsort(value.reshape(problems, count), axis=1)[:, :keep]
    return np.take_along_axis(theta.reshape(problems, count, size), best[:, :, None], axis=1)


def minimise(
    model: Model, y: np.ndarray, weights: np.ndarray, starts: np.ndarray, keep: int = 8, delta: float = DELTA
) -> Solution:
    """Minimise the weighted Huber loss of `predict - y` for each row of weights, from several starts.

    y: [n]; weights: [B, n], such as how often a replicate drew each run; starts: [B, S, p]. All starts take a few
    steps, the best `keep` of each problem are refined.
    """
    theta = screened(model, y, weights, starts, keep, delta)
    problems, keep, size = theta.shape
    tried = np.repeat(weights, keep, axis=0)
    theta, value = _descend(model, y, tried, theta.reshape(-1, size), REFINING, delta, TOLERANCE)
    value = value.reshape(problems, keep)
    first = np.argmin(value, axis=1)
    rows = np.arange(problems)
    return Solution(theta.reshape(problems, keep, size)[rows, first], value[rows, first])


def replicated(model: Model, y: np.ndarray, weights: np.ndarray, theta: np.ndarray, delta: float = DELTA) -> np.ndarray:
    """[B, p]: the constants of many replicates of a fit theta [p] whose runs determine it well, for weights [B, n].

    Each replicate is first solved with the derivatives of the fit, which all share, so that a step is one product of
    matrices; then by steps of its own from there, or from the fit where that is better.
    """
    values, slopes = _predict(model, theta[None])
    residual, slope = values[0] - y, slopes[0]
    products = (slope[:, None] * slope[None]).reshape(-1, slope.shape[1]).T.copy()
    near = np.repeat(theta[None], len(weights), axis=0)
    for _ in range(SHARED):
        left = residual + (near - theta) @ slope
        pull = weights * np.minimum(1.0, delta / np.maximum(np.abs(left), 1e-300))
        curvature = (pull @ products).reshape(len(weights), len(theta), len(theta))
        near = _moved(model, near, (pull * left) @ slope.T, curvature, np.full(len(weights), 1e-9))
    share = weights / weights.sum(axis=1, keepdims=True)
    reached = (share * huber(model.predict(near)[0] - y, delta)).sum(axis=1)
    known = (share * huber(residual, delta)).sum(axis=1)
    near = np.where((reached < known)[:, None], near, theta)
    return _descend(model, y, weights, near, FINISHING, delta, ROUGHLY)[0]


def _descend(
    model: Model, y: np.ndarray, weights: np.ndarray, theta: np.ndarray, steps: int, delta: float, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg-Marquardt on the squares that bound the Huber loss from above (each step of those lowers it too).

    Only rows that still fall take part in a step.
    """
    weights = weights / weights.sum(axis=1, keepdims=True)
    theta = np.clip(theta, model.low, model.high)
    values, slopes = _predict(model, theta)
    objective = (weights * huber(values - y, delta)).sum(axis=1)
    damping = np.full(len(theta), 1e-3)
    rest = np.zeros(len(theta), np.int64)  # steps in a row without a fall worth naming
    for _ in range(steps):
        rows = np.flatnonzero(rest < 6)
        if not len(rows):
            break
        trial = _step(model, y, weights[rows], theta[rows], values[rows], slopes[rows], damping[rows], delta)
        new_values, new_slopes = _predict(model, trial)
        new = (weights[rows] * huber(new_values - y, delta)).sum(axis=1)
        fell = new < objective[rows]
        falls = np.where(fell, objective[rows] - new, 0.0)
        rest[rows] = np.where(falls > tolerance * objective[rows], 0, rest[rows] + 1)
        better = rows[fell]
        theta[better], values[better], slopes[better] = trial[fell], new_values[fell], new_slopes[fell]
        objective[better] = new[fell]
        damping[rows] = np.clip(damping[rows] * np.where(fell, 0.2, 8.0), 1e-12, 1e6)
    return theta, objective


def _predict(model: Model, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """values [B, n], and derivatives [B, p, n] whose sums over n run along memory."""
    values, slopes = model.predict(theta)
    return values, np.ascontiguousarray(slopes.transpose(0, 2, 1))


def _step(
    model: Model,
    y: np.ndarray,
    weights: np.ndarray,
    theta: np.ndarray,
    values: np.ndarray,
    slopes: np.ndarray,
    damping: np.ndarray,
    delta: float,
) -> np.ndarray:
    residual = values - y
    pull = weights * np.minimum(1.0, delta / np.maximum(np.abs(residual), 1e-300))
    pulled = pull[:, None, :] * slopes
    gradient = (pulled @ residual[:, :, None])[:, :, 0]
    curvature = pulled @ slopes.transpose(0, 2, 1)
    return _moved(model, theta, gradient, curvature, damping)


def _moved(
    model: Model, theta: np.ndarray, gradient: np.ndarray, curvature: np.ndarray, damping: np.ndarray
) -> np.ndarray:
    """theta [B, p] after a damped step, within the bounds."""
    # A constant that rests at its bound and is pushed outwards takes no part.
    fixed = ((theta <= model.low) & (gradient > 0)) | ((theta >= model.high) & (gradient < 0))
    free = ~fixed
    curvature = curvature * (free[:, :, None] & free[:, None, :])
    size = theta.shape[1]
    diagonal = np.einsum("bpp->bp", curvature)
    scale = diagonal * (1 + damping[:, None]) + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    system = curvature.copy()
    system[:, np.arange(size), np.arange(size)] = np.where(fixed, 1.0, scale)
    step = np.linalg.solve(system, np.where(fixed, 0.0, gradient)[:, :, None])[:, :, 0]
    return np.clip(theta - np.clip(step, -5, 5), model.low, model.high)
