"""How well a law of settings says the best ones of places that it has not seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainer.scaling.settings.places import Place
from trainer.scaling.settings.points import Points
from trainer.scaling.settings.surface import Fit, Terms, fit_surface, surface

MOST = 5  # places that are held out, the most expensive ones
FEWEST_LEFT = 5  # places to fit on


class Miss(NamedTuple):
    """What a law without a place said about it."""

    parameters: float
    tokens: float
    predicted: np.ndarray  # logarithms [settings]
    best: np.ndarray  # of the best run
    steps: tuple[int, ...]  # of the grid that was tried, between the tried value nearest to the prediction and the best
    cost: float  # log loss of the prediction above the place's own optimum, by the surface

    @property
    def within_one(self) -> bool:
        return max(map(abs, self.steps)) <= 1


def hold_out(points: Points, terms: Terms, fit: Fit, places: list[Place], *, cheaper: bool) -> list[Miss]:
    """Each of the most expensive places in turn is left out (cheaper: with all that are not cheaper), and asked for."""
    found = []
    for place in places[-MOST:]:
        here = points.place == place.number
        left = points.parameters * points.tokens < place.cost * (1 - 1e-3) if cheaper else ~here
        if len(np.unique(points.place[left])) < FEWEST_LEFT:
            continue
        rest = fit_surface(points.only(left), terms, start=fit.theta)
        first = np.flatnonzero(here)[:1]
        predicted = terms.optimum(rest.theta, points.logs[first])[0]
        law = terms.optimum(fit.theta, points.logs[first])[0]
        cost = surface(fit.theta, terms, points.logs[first], (law + predicted - place.own)[None])[0]
        steps = tuple(
            _steps(points.grid(place.number, number), predicted[number], place.best[number])
            for number in range(len(points.names))
        )
        found.append(Miss(place.parameters, place.tokens, predicted, place.best, steps, float(cost[0])))
    return found


def _steps(grid: np.ndarray, predicted: float, best: float) -> int:
    """Signed distance on a grid that goes on beyond its ends as it ends."""
    if len(grid) < 2:
        return 0
    low, high = grid[1] - grid[0], grid[-1] - grid[-2]
    longer = np.concatenate([grid[0] - low * np.arange(12, 0, -1), grid, grid[-1] + high * np.arange(1, 13)])
    return int(np.argmin(np.abs(longer - predicted)) - np.argmin(np.abs(longer - best)))
