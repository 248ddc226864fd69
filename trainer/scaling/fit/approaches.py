"""Compute-optimal models read off the runs themselves: Chinchilla's approaches 1 and 2.

Hoffmann et al. 2022, sections 3.1 and 3.2. Both give points (budget, best parameters, best tokens), through which the
powers N ~ C^a and D ~ C^b are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.scaling.fit.table import Curve, Table

NO_WORK = "the table states neither tokens nor FLOP of every run"
ENVELOPE_BUDGETS = 200  # at which the lowest curve is looked for


@dataclass(frozen=True)
class Optima:
    """The best models found, one a budget: arrays of one length."""

    flop: np.ndarray
    parameters: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    why: str = ""  # what is missing where there are too few

    def exponents(self) -> np.ndarray:
        """[4]: a and b, and the logarithms of N and D at 1 FLOP; nan where there are fewer than two budgets."""
        if len(self.flop) < 2 or np.ptp(np.log(self.flop)) < 1e-6:
            return np.full(4, np.nan)
        x = np.log(self.flop)
        a, n = np.polyfit(x - x.mean(), np.log(self.parameters), 1)
        b, d = np.polyfit(x - x.mean(), np.log(self.tokens), 1)
        return np.array([a, b, n - a * x.mean(), d - b * x.mean()])


@dataclass(frozen=True)
class Parabola:
    """Loss over log N at one budget: loss = c0 + c1 u + c2 u^2 with u = log N - centre."""

    flop: float
    coefficients: np.ndarray  # highest power first, as numpy writes them
    centre: float
    sizes: tuple[float, float]  # smallest and largest
    best: float | None  # parameters at its minimum; None where that is not between the sizes
    why: str = ""

    def at(self, parameters: np.ndarray) -> np.ndarray:
        return np.polyval(self.coefficients, np.log(parameters) - self.centre)


def envelope(table: Table, weights: np.ndarray | None = None) -> Optima:
    """Approach 1, minimum over training curves: which size is lowest at each of many budgets.

    A size counts as the best of a budget only where smaller and larger ones were tried as well: at the rim of the
    table the best is the best of what there is. Runs without curves stand for the curve of their size.
    """
    weights = np.ones(len(table.runs)) if weights is None else weights
    if not _states_work(table):
        return _nothing(NO_WORK)
    curves = _curves(table, weights)
    if len({size for size, _ in curves}) < 3:
        return _nothing("it needs curves (or several budgets) of at least 3 sizes")
    ends = [(curve.flop[0], curve.flop[-1]) for _, curve in curves]
    budgets = np.geomspace(min(low for low, _ in ends), max(high for _, high in ends), ENVELOPE_BUDGETS)
    x = np.log(budgets)
    losses = np.stack([np.interp(x, np.log(c.flop), c.loss, left=np.nan, right=np.nan) for _, c in curves])
    tokens = np.stack([np.exp(np.interp(x, np.log(c.flop), np.log(c.tokens))) for _, c in curves])
    sizes = np.array([size for size, _ in curves])
    present = np.isfinite(losses)
    best = np.argmin(np.where(present, losses, np.inf), axis=0)
    winner = sizes[best]
    smaller = (present & (sizes[:, None] < winner)).any(axis=0)
    larger = (present & (sizes[:, None] > winner)).any(axis=0)
    keep = np.flatnonzero(smaller & larger)
    if len(np.unique(winner[keep])) < 2:
        return _nothing("no two sizes are the best of a budget at which smaller and larger ones were tried as well")
    return Optima(budgets[keep], winner[keep], tokens[best[keep], keep], losses[best[keep], keep])


def _curves(table: Table, weights: np.ndarray) -> list[tuple[float, Curve]]:
    drawn = [(run, weight) for run, weight in zip(table.runs, weights, strict=True) if weight > 0]
    curves = [(run.parameters, run.curve) for run, _ in drawn if run.curve is not None]
    if curves:
        return curves
    by_size: dict[float, dict[float, list[tuple[float, float, float]]]] = {}
    for run, weight in drawn:
        by_size.setdefault(run.parameters, {}).setdefault(run.tokens, []).append((run.flop, run.loss, weight))
    for size, points in by_size.items():
        if len(points) < 2:
            continue
        tokens = np.array(sorted(points))
        means = [np.average(np.array(points[d])[:, :2], axis=0, weights=[w for *_, w in points[d]]) for d in tokens]
        flop, loss = np.array(means).T
        if (np.diff(flop) > 0).all():
            curves.append((size, Curve(flop, tokens, loss)))
    return curves


def isoflop(table: Table, weights: np.ndarray | None = None) -> tuple[Optima, list[Parabola]]:
    """Approach 2, isoFLOP profiles: a parabola through loss over log N at each budget; its minimum is the best N."""
    weights = np.ones(len(table.runs)) if weights is None else weights
    if not _states_work(table):
        return _nothing(NO_WORK), []
    flop, sizes, tokens, loss = (table.column(name) for name in ("flop", "parameters", "tokens", "loss"))
    parabolas, points = [], []
    for number in range(int(table.budgets.max()) + 1):
        here = (table.budgets == number) & (weights > 0)
        if len(np.unique(sizes[here])) < 3:
            continue
        x, w = np.log(sizes[here]), weights[here]
        budget, centre = float(np.exp(np.average(np.log(flop[here]), weights=w))), float(x.mean())
        coefficients = np.polyfit(x - centre, loss[here], 2, w=np.sqrt(w))
        ends = (float(sizes[here].min()), float(sizes[here].max()))
        best, why = _vertex(coefficients, centre, ends)
        parabolas.append(Parabola(budget, coefficients, centre, ends, best, why))
        if best is not None:
            slope, level = np.polyfit(x - centre, np.log(tokens[here]), 1, w=np.sqrt(w))
            at = np.log(best) - centre
            points.append((budget, best, float(np.exp(level + slope * at)), float(np.polyval(coefficients, at))))
    if len(points) < 2:
        tried = f"; {parabolas[0].why}" if parabolas and parabolas[0].why else ""
        return _nothing(f"it needs 2 budgets of at least 3 sizes each, the best one in between{tried}"), parabolas
    flop, best_sizes, best_tokens, lowest = np.array(points).T
    return Optima(flop, best_sizes, best_tokens, lowest), parabolas


def _vertex(coefficients: np.ndarray, centre: float, ends: tuple[float, float]) -> tuple[float | None, str]:
    """Where a parabola is lowest, if that is a minimum between the sizes that were tried."""
    curvature, slope, level = coefficients
    if curvature * np.log(ends[1] / ends[0]) ** 2 < 1e-6 * abs(level):
        return None, "loss over size has no minimum"
    log = centre - slope / (2 * curvature)
    if log < np.log(ends[0]):
        return None, "the best size is below the smallest"
    if log > np.log(ends[1]):
        return None, "the best size is above the largest"
    return float(np.exp(log)), ""


def _states_work(table: Table) -> bool:
    return bool(np.isfinite([table.column("flop"), table.column("tokens")]).all())


def _nothing(why: str) -> Optima:
    none = np.array([])
    return Optima(none, none, none, none, why)
