"""Critical batch over the ladder: the batch from which on more tokens are needed.

At each place, every batch at its best rate: the batch above the best one at which 20% more tokens are needed to reach
the loss of the best (Zhang et al. 2024, "How does critical batch size scale in pre-training?"). What a loss is in
tokens says the slope of the best losses over places. Where runs logged their gradient noise scale (McCandlish et al.
2018), a power through those stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.scaling.fit.resampling import Interval, interval
from trainer.scaling.fit.table import Table
from trainer.scaling.settings.points import FEWEST_PLACES, Points, relative, runs_with

MORE_TOKENS = 0.2
FEWEST_FOR_POWERS = 5  # places for powers of N and D at once
REPLICATES = 400


@dataclass(frozen=True)
class CriticalBatch:
    """B = k N^a D^b; an exponent of an axis that the places do not tell apart is None."""

    k: Interval
    a: Interval | None
    b: Interval | None
    unit: str
    places: tuple[tuple[float, float, float], ...]  # parameters, tokens, batch
    not_reached: int  # places where even the largest batch needs fewer tokens

    def to_json(self) -> dict[str, Any]:
        powers = {name: power and power.to_json() for name, power in (("k", self.k), ("a", self.a), ("b", self.b))}
        rows = [dict(zip(("parameters", "tokens", "batch"), row, strict=True)) for row in self.places]
        return {**powers, "unit": self.unit or None, "places": rows, "places_not_reached": self.not_reached}


def critical_batch(points: Points) -> CriticalBatch | str:
    """The law of the batch at which 20% more tokens are needed; or why there is none."""
    if "batch" not in points.names:
        return "the batch does not vary"
    slopes = _slopes(points)
    if slopes is None:
        return f"what a loss is in tokens is not known: the loss does not fall with tokens over {FEWEST_PLACES} places"
    found, beyond = [], 0
    for place, best in enumerate(points.best):
        batch = _crossing(points, place, slopes[place] * np.log(1 + MORE_TOKENS))
        if batch is None:
            beyond += 1
        else:
            found.append((float(points.parameters[best]), float(points.tokens[best]), batch))
    if len(found) < FEWEST_PLACES:
        return f"only {len(found)} places have batches so large that 20% more tokens are needed; {FEWEST_PLACES} are"
    return _power(found, points.batch_unit, beyond)


def noise_batch(table: Table) -> CriticalBatch | None:
    """A power through the gradient noise scales that runs logged, in tokens; None where fewer than three did."""
    rows = [
        (run.parameters, run.tokens, run.noise_batch)
        for run in runs_with(table, ())
        if run.noise_batch is not None and run.noise_batch > 0
    ]
    return _power(rows, "tokens", 0) if len({row[:2] for row in rows}) >= FEWEST_PLACES else None


def _slopes(points: Points) -> np.ndarray | None:
    """-d log L / d log D at each place, by a smooth surface through the best losses; None where it is not falling."""
    logs, loss = points.logs[points.best], points.log_loss[points.best]
    n, d = logs[:, 1], logs[:, 2]
    columns = [logs[:, 0], n, d, n * d, d**2, n**2]
    for count in (6, 3):
        if len(loss) >= count + (3 if count == 6 else 1):
            design = np.stack(columns[:count], axis=1)
            c, _, rank, _ = np.linalg.lstsq(design, loss, rcond=1e-6)
            slopes = -(c[2] + c[3] * n + 2 * c[4] * d) if count == 6 else np.full(len(loss), -c[2])
            if rank == count and slopes.min() > 0:
                found: np.ndarray = slopes
                return found
    return None


def _crossing(points: Points, place: int, rise: float) -> float | None:
    """The batch above the best one at which the loss, at the best rate, is `rise` higher in its logarithm."""
    here = points.place == place
    log_batch, excess = points.settings[here, points.names.index("batch")], points.excess[here]
    grid = points.grid(place, points.names.index("batch"))
    curve = np.array([excess[np.abs(log_batch - value) < 0.02].min() for value in grid])
    first = int(np.argmin(curve))
    for left in range(first, len(grid) - 1):
        if curve[left + 1] > rise:
            share = (rise - curve[left]) / (curve[left + 1] - curve[left])
            return float(np.exp(grid[left] + share * (grid[left + 1] - grid[left])))
    return None


def _power(rows: list[tuple[float, float, float]], unit: str, beyond: int) -> CriticalBatch:
    parameters, tokens, batch = np.array(rows).T
    middle = (float(np.log(parameters).mean()), float(np.log(tokens).mean()))
    logs, y = relative(parameters, tokens, middle), np.log(batch)
    columns = _columns(logs)
    random = np.random.default_rng(0)
    draws = [np.arange(len(y)), *(random.integers(len(y), size=len(y)) for _ in range(REPLICATES))]
    lines = np.full((len(draws), 3), np.nan)
    lines[:, [column for column in range(3) if column not in columns]] = 0.0
    for number, drawn in enumerate(draws):
        design = logs[drawn][:, columns]
        if np.linalg.matrix_rank(design, tol=1e-6) == len(columns):
            lines[number, columns] = np.linalg.lstsq(design, y[drawn], rcond=None)[0]
    constant = np.exp(lines[:, 0] - lines[:, 1] * middle[0] - lines[:, 2] * middle[1])
    k, a, b = (interval(column[0], column[1:]) for column in (constant, lines[:, 1], lines[:, 2]))
    return CriticalBatch(k, a if 1 in columns else None, b if 2 in columns else None, unit, tuple(rows), beyond)


def _columns(logs: np.ndarray) -> list[int]:
    """The powers that these places tell apart; of tokens alone where they follow the size."""
    spread = [float(np.ptp(logs[:, column])) for column in (1, 2)]
    if min(spread) < 0.1:
        return [0] if max(spread) < 0.1 else [0, 1 + int(np.argmax(spread))]
    together = abs(float(np.corrcoef(logs[:, 1], logs[:, 2])[0, 1]))
    return [0, 1, 2] if len(logs) >= FEWEST_FOR_POWERS and together < 0.97 else [0, 2]
