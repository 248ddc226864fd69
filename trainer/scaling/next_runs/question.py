"""What is to be known: the grammar of `question=`.

    loss of <parameters>@<tokens>       the held-out loss of a run of this size and length, e.g. loss of 1b@20b
    loss for <budget>                   the lowest loss that a budget buys, e.g. loss for 1e21, loss for 25kWh
    size for <budget>                   the best number of parameters for a budget
    exponent                            a of N ~ C^a, how the best size grows with compute

Budgets are FLOPs, or have a unit as in `budget=` (kWh, g, kg, t of CO2e, the table's currency).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainer.scaling.fit.advice import Budget, price_rate, read_budget
from trainer.scaling.fit.table import LARGEST, Table
from trainer.scaling.fit.text import big, number
from trainer.scaling.next_runs.posterior import Draws
from trainer.utils.errors import UserError

GRAMMAR = (
    "loss of <parameters>@<tokens> (loss of 1b@20b), loss for <budget> (loss for 1e21), size for <budget> or exponent"
)
_PLACE = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kmbt]?)\s*@\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kmbt]?)")
_FACTOR = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_SIZES = 160  # tried for a budget
_BELOW, _ABOVE = 30.0, 300.0  # the smallest and largest size tried, beside the runs'


@dataclass(frozen=True)
class Question:
    """answers: draws -> logarithms [R] of what is asked (the exponent itself). place: (parameters, tokens) asked
    about, if any."""

    text: str
    answers: Callable[[Draws], np.ndarray]
    write: Callable[[float], str]  # the answer itself in words
    is_log: bool = True
    place: tuple[float, float] | None = None


def read_question(text: str, table: Table) -> Question:
    """The question that these words ask of a table. Raises UserError with the grammar."""
    words = " ".join(text.lower().split())
    if match := re.fullmatch(rf"loss of {_PLACE.pattern}", words):
        try:
            n, d = float(match[1]) * _FACTOR[match[2]], float(match[3]) * _FACTOR[match[4]]
        except ValueError:
            n = d = 0.0
        if min(n, d) > 1 / LARGEST and max(n, d) < LARGEST:
            here = {"parameters": np.array([n]), "tokens": np.array([d])}
            return Question(words, lambda draws: draws.loss(here)[:, 0], number, place=(n, d))
    for start, column in (("loss for ", 1), ("size for ", 0)):
        if words.startswith(start):
            budget = read_budget(words.removeprefix(start), table.currency, "question")
            return _of_budget(words, column, budget, table)
    if words == "exponent":
        middle = float(np.exp(np.log(table.column("flop")).mean()))
        return Question(words, lambda draws: _exponent(draws, table, middle), number, is_log=False)
    raise UserError(f"question: {text!r} given; {GRAMMAR} wanted")


def _of_budget(words: str, column: int, budget: Budget, table: Table) -> Question:
    def answers(draws: Draws) -> np.ndarray:
        return best(draws, table, budget)[column]

    write = big if column == 0 else number
    price_of(table, budget.axis, *(table.column(name)[:1] for name in ("parameters", "tokens")))  # or an error
    return Question(words, answers, write)


def _exponent(draws: Draws, table: Table, middle: float) -> np.ndarray:
    low, high = (best(draws, table, Budget("flop", middle * factor))[0] for factor in (0.5, 2.0))
    return (high - low) / np.log(4.0)


def price_of(table: Table, axis: str, parameters: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """What runs cost: [m]. Raises UserError where fewer than two runs of the table state the amount."""
    rate = price_rate(table, axis, np.empty((0, len(table.runs))))
    if rate is None:
        raise UserError(f"no two of the runs state their {axis}; give the amount in another unit, e.g. FLOPs")
    return np.exp(rate.log_k[0]) * parameters ** rate.power[0] * tokens


def best(draws: Draws, table: Table, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms [R] of the best size for a budget and of its loss, by every draw: the lowest of a fine grid of sizes,
    refined by a parabola through its neighbours."""
    sizes = table.column("parameters")
    n = np.geomspace(sizes.min() / _BELOW, sizes.max() * _ABOVE, _SIZES)
    d = budget.amount / price_of(table, budget.axis, n, np.ones(len(n)))
    losses = draws.loss({"parameters": n, "tokens": d})
    at = np.clip(losses.argmin(axis=1), 1, len(n) - 2)
    rows = np.arange(len(losses))
    before, here, after = (losses[rows, at + step] for step in (-1, 0, 1))
    with np.errstate(invalid="ignore"):  # a draw may have no finite loss there
        bend = before - 2 * here + after
        shift = np.where(bend > 0, 0.5 * (before - after) / np.where(bend > 0, bend, 1), 0).clip(-1, 1)
        step = np.log(n[1] / n[0])
        return np.log(n[at]) + shift * step, here - 0.25 * (before - after) * shift
