"""Huber regression of many problems at once: every start and every bootstrap replicate is a row of one array."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

DELTA = 1e-3  # where the loss turns from squares to absolute values (Hoffmann et al. 2022, appendix D.3)
SCREENING, REFINING = 25, 400  # steps
TOLERANCE = 1e-12  # relative fall of the objective below which a row rests


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


def minimise(
    model: Model, y: np.ndarray, weights: np.ndarray, starts: np.ndarray, keep: int = 8, delta: float = DELTA
) -> Solution:
    """Minimise the weighted Huber loss of `predict - y` for each row of weights, from several starts.

    y: [n]; weights: [B, n], such as how often a replicate drew each run; starts: [B, S, p]. All starts take a few
    steps, the best `keep` of each problem are refined.
    """
    problems, count, size = starts.shape
    theta = starts.reshape(-1, size)
    theta, value = _descend(model, y, np.repeat(weights, count, axis=0), theta, SCREENING, delta)
    keep = min(keep, count)
    best = np.argsort(value.reshape(problems, count), axis=1)[:, :keep]
    theta = np.take_along_axis(theta.reshape(problems, count, size), best[:, :, None], axis=1).reshape(-1, size)
    theta, value = _descend(model, y, np.repeat(weights, keep, axis=0), theta, REFINING, delta)
    value = value.reshape(problems, keep)
    first = np.argmin(value, axis=1)
    rows = np.arange(problems)
    return Solution(theta.reshape(problems, keep, size)[rows, first], value[rows, first])


def _descend(
    model: Model, y: np.ndarray, weights: np.ndarray, theta: np.ndarray, steps: int, delta: float
) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg-Marquardt on the squares that bound the Huber loss from above (each step of those lowers it too).

    Only rows that still fall take part in a step.
    """
    weights = weights / weights.sum(axis=1, keepdims=True)
    theta = np.clip(theta, model.low, model.high)
    values, slopes = model.predict(theta)
    objective = (weights * huber(values - y, delta)).sum(axis=1)
    damping = np.full(len(theta), 1e-3)
    rest = np.zeros(len(theta), np.int64)  # steps in a row without a fall worth naming
    for _ in range(steps):
        rows = np.flatnonzero(rest < 6)
        if not len(rows):
            break
        trial = _step(model, y, weights[rows], theta[rows], values[rows], slopes[rows], damping[rows], delta)
        new_values, new_slopes = model.predict(trial)
        new = (weights[rows] * huber(new_values - y, delta)).sum(axis=1)
        fell = new < objective[rows]
        falls = np.where(fell, objective[rows] - new, 0.0)
        rest[rows] = np.where(falls > TOLERANCE * objective[rows], 0, rest[rows] + 1)
        better = rows[fell]
        theta[better], values[better], slopes[better] = trial[fell], new_values[fell], new_slopes[fell]
        objective[better] = new[fell]
        damping[rows] = np.clip(damping[rows] * np.where(fell, 0.2, 8.0), 1e-12, 1e6)
    return theta, objective


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
    pulled = (pull[:, :, None] * slopes).transpose(0, 2, 1)
    gradient = (pulled @ residual[:, :, None])[:, :, 0]
    curvature = pulled @ slopes
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
