"""Two tables of runs beside each other: what both cover, and which runs are a pair."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from trainer.scaling.fit.parametric import one_rule
from trainer.scaling.fit.table import Run, Table, named
from trainer.utils.errors import UserError

FEWEST_SIZES, FEWEST_PLACES = 3, 6
ONE_PATH = 0.95  # correlation of log N and log D from which on places may lie along one path of compute
SAME_PLACE = 0.02  # of the logarithms of two sizes or numbers of tokens


@dataclass(frozen=True)
class Sides:
    """The runs of two tables in one, the first table's before the second's."""

    labels: tuple[str, str]
    table: Table
    second: np.ndarray  # bool [runs]
    notes: tuple[str, ...] = ()

    @cached_property
    def form(self) -> str:
        """`sizes` where the law can be one of parameters and tokens, `compute` where it must be one of FLOPs alone.

        Raises UserError where neither can be fitted.
        """
        places = _rounded(np.stack([self.table.column("parameters"), self.table.column("tokens")], axis=1))
        sizes, tokens = (len(np.unique(column)) for column in places.T)
        number, all_budgets = len(np.unique(places, axis=0)), int(self.table.budgets.max()) + 1
        budgets = [len(np.unique(self.table.budgets[side])) for side in (~self.second, self.second)]
        enough = min(sizes, tokens) >= FEWEST_SIZES and number >= FEWEST_PLACES and not one_rule(self.table)
        apart = enough and abs(np.corrcoef(places.T)[0, 1]) < ONE_PATH
        path = sizes == 1 or number == all_budgets or one_rule(self.table)  # compute alone tells the place
        if not apart and path and min(budgets) >= FEWEST_SIZES:
            return "compute"
        if enough:
            return "sizes"
        raise UserError(
            f"compare: no law can be fitted to {self.labels[0]} and {self.labels[1]}: it needs {FEWEST_SIZES} sizes "
            f"and {FEWEST_SIZES} numbers of tokens in {FEWEST_PLACES} places or more, or {FEWEST_SIZES} budgets of one "
            f"size or one rule of tokens; there are {sizes} and {tokens} in {number}, and {budgets[0]} and "
            f"{budgets[1]} budgets"
        )

    @property
    def logs(self) -> np.ndarray:
        """[runs, v]: logarithms of what the law is of."""
        names = ("parameters", "tokens") if self.form == "sizes" else ("flop",)
        return np.log(np.stack([self.table.column(name) for name in names], axis=1))

    @property
    def base(self) -> str:
        """What the factor divides: tokens at the same size, or FLOPs."""
        return "tokens" if self.form == "sizes" else "flop"

    @cached_property
    def common(self) -> tuple[float, float]:
        """Least and most FLOPs that both cover. Raises UserError where there are none."""
        flop = self.table.column("flop")
        ends = [(flop[side].min(), flop[side].max()) for side in (~self.second, self.second)]
        low, high = max(end[0] for end in ends), min(end[1] for end in ends)
        if low > 1.05 * high:
            covered = " and ".join(
                f"{label} {end[0]:.3g} to {end[1]:.3g}" for label, end in zip(self.labels, ends, strict=True)
            )
            raise UserError(f"compare: the runs cover no compute in common ({covered} FLOP): no factor between them")
        return float(low), float(max(low, high))

    @cached_property
    def clusters(self) -> np.ndarray:
        """int64 [runs]: runs of one place and one seed, one of each side, are drawn together: a pair."""
        numbers: dict[Hashable, int] = {}
        seen: dict[Hashable, int] = {}
        found = []
        places = _rounded(np.stack([self.table.column("parameters"), self.table.column("tokens")], axis=1))
        for run, place, side in zip(self.table.runs, places, self.second, strict=True):
            where = (*map(float, place), _seed(run))
            again = seen[(where, side)] = seen.get((where, side), -1) + 1  # the same once more is a run of its own
            found.append(numbers.setdefault((where, again), len(numbers)))
        return np.array(found)

    @property
    def paired_by(self) -> str:
        """What the two runs of a pair share."""
        return "one place and seed" if all(_seed(run) is not None for run in self.table.runs) else "one place"

    @property
    def pairs(self) -> int:
        return len(self.table.runs) - len(np.unique(self.clusters))


def sides(labels: tuple[str, str], first: Table, second: Table) -> Sides:
    """Both tables as one. Raises UserError where a table is empty or they have no compute in common."""
    for label, table in zip(labels, (first, second), strict=True):
        if not table.runs:
            raise UserError(f"compare: {label}: no run is left to fit")
    marks = np.array([False] * len(first.runs) + [True] * len(second.runs))
    currency = first.currency if first.currency == second.currency else ""
    runs, notes = first.runs + second.runs, _notes(labels, first, second)
    if first.currency != second.currency:
        runs = tuple(replace(run, money=None) for run in runs)
    joined = Table(runs, first.counts, first.flop_rule, currency)
    found = Sides(labels, joined, marks, notes)
    found.form, found.common  # noqa: B018 - raise what is wrong now
    return found


def _notes(labels: tuple[str, str], first: Table, second: Table) -> tuple[str, ...]:
    """What differs between the tables, and which runs they leave out."""
    notes = []
    if first.counts != second.counts:
        notes.append(f"N is {first.counts} of {labels[0]}, and {second.counts} of {labels[1]}")
    if first.flop_rule != second.flop_rule:
        notes.append(f"C is {first.flop_rule} of {labels[0]}, and {second.flop_rule} of {labels[1]}")
    if first.currency != second.currency:
        notes.append(
            f"money is in {first.currency or 'no stated currency'} and {second.currency or 'no stated currency'}: "
            "that factor is left out"
        )
    arithmetic = {dict(run.origin).get("numerics", "") for run in first.runs + second.runs}
    if len(arithmetic) > 1:
        notes.append(f"numerics differ ({' and '.join(sorted(arithmetic))}): part of a factor may be the arithmetic's")
    for label, table in zip(labels, (first, second), strict=True):
        if table.left_out:
            notes.append(f"{label}: left out {named(f'{name} ({why})' for name, why in table.left_out)}")
        notes += [f"{label}: {note}" for note in table.notes]
    return tuple(notes)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.round(np.log(values) / SAME_PLACE)


def _seed(run: Run) -> int | None:
    return getattr(run, "seed", None)
