"""How far approach 2 misses the optimum of a known law on the grid of these runs (arXiv 2603.22339).

A parabola through losses over log N is no law: where the sizes lie off the optimum's centre, or the loss rises more on
one side than on the other, its minimum is elsewhere. How far, the law's own losses without noise tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from trainer.scaling.fit.approaches import isoflop
from trainer.scaling.fit.parametric import Law
from trainer.scaling.fit.table import Table

GRID = 1000  # sizes at which a law is asked for its lowest loss
WIDE = 1e3  # x beyond the table's sizes on both sides


class Bias(NamedTuple):
    """Approach 2 on losses of the law at the table's runs, and the law's own optimum."""

    read: float  # a in N ~ C^a as approach 2 reads it
    true: float
    sizes: np.ndarray  # [budgets]: best size that it reads over the law's own
    flop: np.ndarray


def profile_bias(law: Law, table: Table) -> Bias | None:
    """None where the law is not one of parameters and tokens, or where approach 2 finds no two optima on it."""
    if tuple(law.model.variables) != ("parameters", "tokens"):
        return None
    loss = law.model.loss_at(law.constants()[:1], [table.column("parameters"), table.column("tokens")])[0]
    runs = tuple(replace(run, loss=float(value)) for run, value in zip(table.runs, loss, strict=True))
    optima, _ = isoflop(replace(table, runs=runs))
    if optima.why:
        return None
    best = best_sizes(law, table, optima.flop)
    x = np.log(optima.flop)
    if np.isnan(best).any() or np.ptp(x) < 1e-6:
        return None
    read, true = (float(np.polyfit(x - x.mean(), np.log(sizes), 1)[0]) for sizes in (optima.parameters, best))
    return Bias(read, true, optima.parameters / best, optima.flop)


def best_sizes(law: Law, table: Table, flop: np.ndarray) -> np.ndarray:
    """[budgets]: the size with the law's lowest loss at each budget of FLOP; nan where there is none within reach."""
    sizes, tokens = table.column("parameters"), table.column("tokens")
    # What a parameter and token cost; in tables where attention counts it is not quite the same for all sizes.
    log_n, log_k = np.log(sizes), np.log(table.column("flop") / sizes / tokens)
    power, level = np.polyfit(log_n, log_k, 1) if np.ptp(log_n) > 0 else (0.0, float(log_k.mean()))
    grid = np.geomspace(sizes.min() / WIDE, sizes.max() * WIDE, GRID)
    each = np.exp(level + power * np.log(grid)) * grid
    loss_at: Callable[..., np.ndarray] = law.model.loss_at
    found = np.full(len(flop), np.nan)
    for k, budget in enumerate(flop):
        loss = loss_at(law.constants()[:1], [grid, budget / each])[0]
        lowest = int(np.argmin(np.where(np.isfinite(loss), loss, np.inf)))
        if 0 < lowest < GRID - 1:
            below, here, above = loss[lowest - 1 : lowest + 2]
            step = 0.5 * (below - above) / max(below - 2 * here + above, 1e-300)
            found[k] = grid[lowest] * (grid[1] / grid[0]) ** np.clip(step, -0.5, 0.5)
    return found
