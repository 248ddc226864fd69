"""One table of runs, wherever they were made: what each run was, what it reached, what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from trainer.utils.errors import UserError

AXES = {"flop": "FLOP", "kwh": "kWh", "gco2e": "g CO2e", "money": ""}  # the unit of money is the table's currency
SAME_BUDGET = 0.1  # budgets whose logarithms are nearer than this are one budget
MOST_NAMES = 6  # of runs in one line of an error


@dataclass(frozen=True)
class Curve:
    """Held-out loss along one run, or along the runs of one size: arrays of one length, cheapest first."""

    flop: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class Run:
    """One finished run. Amounts that were neither measured nor stated are None."""

    name: str
    parameters: float
    tokens: float
    flop: float
    loss: float  # nats per token
    kwh: float | None = None
    gco2e: float | None = None
    money: float | None = None
    curve: Curve | None = None
    origin: tuple[tuple[str, str], ...] = ()  # ("data", "..."), ("tokenizer", "..."): must agree within one fit


@dataclass(frozen=True)
class Table:
    """Runs, and what must be said beside any figure that is made from them."""

    runs: tuple[Run, ...]
    counts: str  # what `parameters` counts
    flop_rule: str  # where `flop` comes from
    currency: str = ""
    left_out: tuple[tuple[str, str], ...] = ()  # (name, why)
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> np.ndarray:
        """float64 [runs]; nan where the run does not say."""
        values = [getattr(run, name) for run in self.runs]
        return np.array([np.nan if value is None else value for value in values], float)

    @cached_property
    def budgets(self) -> np.ndarray:
        """int64 [runs]: which FLOP budget each run belongs to, 0 the smallest."""
        logs = np.log(self.column("flop"))
        order = np.argsort(logs, kind="stable")
        steps = np.diff(logs[order], prepend=logs[order[:1]]) > SAME_BUDGET
        numbers = np.empty(len(logs), np.int64)
        numbers[order] = np.cumsum(steps)
        return numbers

    @cached_property
    def places(self) -> np.ndarray:
        """int64 [runs]: which (parameters, tokens) each run has; runs of one place are its seeds."""
        both = np.stack([self.column("parameters"), self.column("tokens")], axis=1)
        return np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)

    def only(self, keep: np.ndarray) -> Table:
        """The runs that `keep` (bool [runs]) marks."""
        return replace(self, runs=tuple(run for run, kept in zip(self.runs, keep, strict=True) if kept))

    def unit(self, axis: str) -> str:
        return self.currency if axis == "money" else AXES[axis]


def check_origin(runs: Sequence[Run]) -> None:
    """Raise UserError where runs are of different data, tokenizers, objectives or numerics: their losses are not one
    scale."""
    wrong = []
    for what in dict.fromkeys(name for run in runs for name, _ in run.origin):
        by_value: dict[str, list[str]] = {}
        for run in runs:
            by_value.setdefault(dict(run.origin).get(what, "not stated"), []).append(run.name)
        if len(by_value) > 1:
            sides = " against ".join(f"{value} ({named(names)})" for value, names in by_value.items())
            wrong.append(f"{what}: these runs differ in it, and losses of different {what} are not one scale: {sides}")
    if wrong:
        raise UserError("\n".join([*wrong, "to fit them together all the same, add mixed=true"]))


def named(names: Iterable[str]) -> str:
    """Names for one line of text: the first few, and how many more."""
    names = list(names)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
