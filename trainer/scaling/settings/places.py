"""Each place's own optimum, with the shape of the surface that all places share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.scaling.settings.points import Points
from trainer.scaling.settings.surface import Fit, Terms, surface

BELIEF = 0.7  # deviation of a place's optimum from the law that is believed before it is seen, in log units
STEPS = 20


@dataclass(frozen=True)
class Place:
    """One (N, D), the best that was tried there, and where its optimum lies."""

    number: int
    parameters: float
    tokens: float
    runs: int
    near: int  # of them inside the window
    best: np.ndarray  # logarithms of the best run's settings
    loss: float  # of the best run
    own: np.ndarray  # [settings], logarithms of the optimum: the valley's, or the best run's where that lies outside
    error: np.ndarray  # [settings], standard error of it
    at_edge: tuple[bool, ...]  # whether the best run has the smallest or largest value tried
    outside: bool  # the valley's centre lies outside of what was tried: the best run was taken

    @property
    def cost(self) -> float:
        return self.parameters * self.tokens


def places_of(points: Points, terms: Terms, fit: Fit) -> list[Place]:
    """All places, cheapest first."""
    found = [_place(points, terms, fit, number) for number in range(len(points.best))]
    return sorted(found, key=lambda place: (place.cost, place.parameters))


def _place(points: Points, terms: Terms, fit: Fit, number: int) -> Place:
    rows, best = fit.rows[points.place[fit.rows] == number], points.best[number]
    grids = [points.grid(number, setting) for setting in range(len(points.names))]
    settings = points.settings[best]
    own, error = _valley(points, terms, fit, rows)
    own = own + terms.optimum(fit.theta, points.logs[[best]])[0]
    inside = all(_within(grid, value) for grid, value in zip(grids, own, strict=True))
    return Place(
        number=number,
        parameters=float(points.parameters[best]),
        tokens=float(points.tokens[best]),
        runs=int((points.place == number).sum()),
        near=len(rows),
        best=settings,
        loss=float(points.loss[best]),
        own=own if inside else settings,
        error=error if inside else np.maximum(error, [_step(grid) for grid in grids]),
        at_edge=tuple(
            bool(value < grid[0] + 0.01 or value > grid[-1] - 0.01) for grid, value in zip(grids, settings, strict=True)
        ),
        outside=not inside,
    )


def _within(grid: np.ndarray, value: float) -> bool:
    return bool(grid[0] - _step(grid) / 2 <= value <= grid[-1] + _step(grid) / 2)


def _step(grid: np.ndarray) -> float:
    """The usual distance of values of a grid."""
    return float(np.median(np.diff(grid))) if len(grid) > 1 else 0.7


def _valley(points: Points, terms: Terms, fit: Fit, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the optimum of these runs lies from the law, with its standard error [settings]."""
    count = len(points.names)
    if not len(rows):
        return np.zeros(count), np.full(count, BELIEF)
    firsts = np.cumsum([0, *map(len, terms.columns)])[:-1]  # of each setting: the column of its constant
    away, given = np.zeros(count), fit.weights[rows]
    logs, y = points.logs[rows], points.log_loss[rows]
    belief = np.eye(count) * (fit.noise / BELIEF) ** 2
    residual = np.zeros(len(rows))
    for _ in range(STEPS):
        value, slopes = surface(fit.theta, terms, logs, points.settings[rows] - away)
        weights = given * np.minimum(1.0, fit.noise / np.maximum(np.abs(residual), 1e-12))
        residual = y - value - np.average(y - value, weights=weights)
        slopes = slopes[:, firsts]
        slopes = slopes - np.average(slopes, axis=0, weights=weights)
        system = (slopes * weights[:, None]).T @ slopes + belief
        step = np.linalg.solve(system, (slopes * weights[:, None]).T @ residual - belief @ away)
        away = away + np.clip(step, -0.4, 0.4)
        if np.abs(step).max() < 1e-4:
            break
    noise = max(fit.noise, float(np.sqrt(np.average(residual**2, weights=given))))
    return away, noise * np.sqrt(np.diag(np.linalg.inv(system)))


def scatter(places: list[Place], law: np.ndarray, constants: int) -> np.ndarray:
    """Deviation of the best runs of all places from a law of so many constants a setting [settings]."""
    away = np.array([place.best for place in places]) - law
    deviation: np.ndarray = np.sqrt((away**2).sum(axis=0) / max(1, len(places) - constants))
    return deviation
