"""Runs at several settings: where they stand, and which is the best of each place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from trainer.scaling.fit.table import Run, Table
from trainer.utils.errors import UserError

SETTINGS = ("lr", "batch")  # in this order wherever there are two
FEWEST_VALUES = 3  # of a setting at a place: an optimum lies between others
FEWEST_PLACES = 3
SAME_TOKENS = 1.03  # times a number of tokens is the same number
SAME_VALUE = 0.01  # values whose logarithms are nearer than this are one value of a grid


@dataclass(frozen=True)
class Points:
    """Runs of places (N, D) with several settings each."""

    names: tuple[str, ...]  # of the settings that a law is asked for: of SETTINGS
    parameters: np.ndarray  # float64 [runs]
    tokens: np.ndarray
    loss: np.ndarray
    settings: np.ndarray  # float64 [runs, settings], natural logarithms
    batch_unit: str  # "tokens", "sequences", or nothing where the table does not state it
    counts: str  # what parameters count
    centre: tuple[float, float] | None = None  # log N and log D that logs are relative to; of others where given

    def only(self, keep: np.ndarray) -> Points:
        """The runs that `keep` (bool [runs] or indices) marks, relative to the same centre."""
        return replace(
            self,
            parameters=self.parameters[keep],
            tokens=self.tokens[keep],
            loss=self.loss[keep],
            settings=self.settings[keep],
            centre=self.middle,
        )

    @cached_property
    def place(self) -> np.ndarray:
        """int64 [runs]: which (parameters, tokens) each run has."""
        both = np.stack([self.parameters, self.tokens], axis=1)
        return np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def best(self) -> np.ndarray:
        """int64 [places]: the run with the lowest loss of each place."""
        order = np.lexsort((self.loss, self.place))
        return order[np.unique(self.place[order], return_index=True)[1]]

    @cached_property
    def middle(self) -> tuple[float, float]:
        if self.centre is not None:
            return self.centre
        return float(np.log(self.parameters[self.best]).mean()), float(np.log(self.tokens[self.best]).mean())

    @cached_property
    def logs(self) -> np.ndarray:
        """float64 [runs, 3]: 1, log N and log D."""
        return relative(self.parameters, self.tokens, self.middle)

    @cached_property
    def log_loss(self) -> np.ndarray:
        return np.log(self.loss)

    @cached_property
    def excess(self) -> np.ndarray:
        """Log loss above the best run of the place."""
        return self.log_loss - self.log_loss[self.best][self.place]

    def smallest_excess(self, count: int) -> np.ndarray:
        """float64 [places]: the excess of the count-th best run of each place, or of its worst."""
        found = []
        for place in range(len(self.best)):
            here = np.sort(self.excess[self.place == place])
            found.append(here[min(count, len(here)) - 1])
        return np.array(found)

    def grid(self, place: int, setting: int) -> np.ndarray:
        """The values of a setting that were tried at a place, as logarithms, each once."""
        values = np.sort(self.settings[self.place == place, setting])
        return values[np.diff(values, prepend=-np.inf) > SAME_VALUE]


def relative(parameters: np.ndarray, tokens: np.ndarray, middle: tuple[float, float]) -> np.ndarray:
    """float64 [m, 3]: 1, log N and log D relative to the middle of the places."""
    n, d = np.log(parameters) - middle[0], np.log(tokens) - middle[1]
    return np.stack([np.ones_like(n), n, d], axis=1)


def varied(table: Table) -> tuple[str, ...]:
    """The settings that have several values at several places: what a law can be asked of. Where few rows state both,
    the first of them alone."""
    if any(run.loss <= 0 for run in table.every or table.runs):
        return ()  # normalised losses
    names = tuple(name for name in SETTINGS if _places_with_several(table, name, (name,)) >= FEWEST_PLACES)
    return names if all(_places_with_several(table, name, names) >= FEWEST_PLACES for name in names) else names[:1]


def _places_with_several(table: Table, name: str, stated: tuple[str, ...]) -> int:
    """Places with several values of a setting, of the runs that state all of these."""
    values: dict[tuple[float, float], set[float]] = {}
    for run in runs_with(table, stated):
        values.setdefault((run.parameters, run.tokens), set()).add(round(float(np.log(getattr(run, name))), 2))
    return sum(len(each) >= FEWEST_VALUES for each in values.values())


def runs_with(table: Table, names: tuple[str, ...]) -> list[Run]:
    """The runs of every setting that state these and have a finite loss. Tokens of one size that differ by less than 3%
    are one number: whole steps of other batches end at others."""
    runs = [
        run
        for run in (table.every or table.runs)
        if all(getattr(run, name) is not None for name in names) and np.isfinite([run.loss, run.tokens]).all()
    ]
    same: dict[tuple[float, float], float] = {}
    last_size = first = 0.0
    for size, tokens in sorted({(run.parameters, run.tokens) for run in runs}):
        if size != last_size or tokens > SAME_TOKENS * first:
            last_size, first = size, tokens
        same[size, tokens] = first
    return [replace(run, tokens=same[run.parameters, run.tokens]) for run in runs]


def points_of(table: Table, names: tuple[str, ...], sequence_length: int | None = None) -> Points:
    """The runs of a table that state these settings and have a finite loss.

    sequence_length: tokens of a sequence; turns a batch in sequences into tokens. Raises UserError where a setting is
    not stated, or has too few values at too few places.
    """
    for name in names:
        several = _places_with_several(table, name, names)
        if several < FEWEST_PLACES:
            both = " in rows that state both" * (len(names) > 1)
            raise UserError(
                f"settings: {name}: {several} place{'s' * (several != 1)} (parameters, tokens) with {FEWEST_VALUES} or "
                f"more values of it{both}; a law needs {FEWEST_PLACES} such places"
            )
    runs = runs_with(table, names)
    if any(run.loss <= 0 for run in runs):
        raise UserError(
            "settings: losses of 0 or below (normalised ones) have no logarithm, which the law is fitted to"
        )
    runs = runs if set(names) == set(SETTINGS) else _best_of_the_rest(runs, names)
    unit, factor = table.batch_unit, 1.0
    if sequence_length is not None and "batch" in names:
        if unit == "tokens":
            raise UserError(f"sequence_length: {sequence_length} given, but the table states its batch in tokens")
        unit, factor = "tokens", float(sequence_length)
    columns = [[getattr(run, name) * (factor if name == "batch" else 1.0) for run in runs] for name in names]
    return Points(
        names,
        np.array([run.parameters for run in runs], float),
        np.array([run.tokens for run in runs], float),
        np.array([run.loss for run in runs], float),
        np.log(np.array(columns, float).T),
        unit,
        table.counts,
    )


def _best_of_the_rest(runs: list[Run], names: tuple[str, ...]) -> list[Run]:
    """Of the runs that share a place and these settings the best: the other setting is not asked for."""
    best: dict[tuple[float, ...], Run] = {}
    for run in runs:
        key = (run.parameters, run.tokens, *(round(float(np.log(getattr(run, name))), 2) for name in names))
        if key not in best or run.loss < best[key].loss:
            best[key] = run
    return list(best.values())
