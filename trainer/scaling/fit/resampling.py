"""Bootstrap over runs and seeds: how the answer would change had other runs of the same kind been made."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainer.scaling.fit.table import Table

LEVEL = 0.95  # share of the replicates inside of an interval
_ROUNDS = 200


class Interval(NamedTuple):
    """A value with the interval of its replicates; nan bounds where nothing could be replicated."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        return {name: float(x) if np.isfinite(x) else None for name, x in self._asdict().items()}


def interval(value: float, replicates: np.ndarray) -> Interval:
    """The middle 95% of the replicates, stretched to hold the value itself."""
    finite = replicates[np.isfinite(replicates)]
    if len(finite) < max(20, len(replicates) // 4):
        return Interval(float(value), np.nan, np.nan)
    low, high = np.percentile(finite, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def resample(table: Table, count: int, seed: int = 0) -> np.ndarray:
    """float64 [count, runs]: how often each replicate drew each run.

    Places (parameters, tokens) are drawn with replacement, then seeds within each drawn place. Draws that hold too few
    sizes or numbers of tokens to fit anything are drawn again.
    """
    random = np.random.default_rng(seed)
    places, sizes, tokens = table.places, table.column("parameters"), table.column("tokens")
    number = int(places.max()) + 1
    weights = np.empty((count, len(places)))
    todo = np.arange(count)
    for _ in range(_ROUNDS):
        drawn = random.multinomial(number, np.full(number, 1 / number), size=len(todo))
        for place in range(number):
            here = np.flatnonzero(places == place)
            weights[np.ix_(todo, here)] = random.multinomial(
                drawn[:, place] * len(here), np.full(len(here), 1 / len(here))
            )
        poor = [_variety(row > 0, places, sizes, tokens, number) for row in weights[todo]]
        todo = todo[np.array(poor)]
        if not len(todo):
            break
    return weights


def _variety(drawn: np.ndarray, places: np.ndarray, sizes: np.ndarray, tokens: np.ndarray, number: int) -> bool:
    """Whether a draw is too poor: fewer places than constants to fit, or fewer than three sizes or token counts."""
    enough = min(6, number - 1)
    kinds = [len(np.unique(column[drawn])) for column in (sizes, tokens)]
    wanted = [min(3, len(np.unique(column))) for column in (sizes, tokens)]
    few = any(kind < want for kind, want in zip(kinds, wanted, strict=True))
    return few or len(np.unique(places[drawn])) < enough
