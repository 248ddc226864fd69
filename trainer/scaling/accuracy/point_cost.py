"""The cheapest model that reaches an accuracy, and what one point more costs there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from trainer.scaling.accuracy.averaged import Averaged
from trainer.scaling.accuracy.laws import TaskLaw, TaskLaws
from trainer.scaling.accuracy.sigmoid import accuracy_at, bits_for
from trainer.scaling.fit.advice import Rate, price_rate
from trainer.scaling.fit.resampling import LEVEL, Interval
from trainer.scaling.fit.table import AXES, Table
from trainer.utils.errors import UserError, nearest

POINT = 0.01  # of accuracy
FARTHEST = 1e6  # x the FLOP of the largest run: what lies beyond is not looked for
SIZES, HALVINGS = 60, 40  # of the search


class Goal(NamedTuple):
    """An accuracy of a task."""

    task: str
    accuracy: float


@dataclass(frozen=True)
class PointCost:
    """amounts and one_more: axis -> what the cheapest model costs, and what it costs more to be one point better.

    An upper end is nan where some laws that fit the runs never reach the accuracy.
    """

    goal: Goal
    bits: float | None  # per byte, that the accuracy needs; None where none are enough, or any
    why: str = ""  # it is not reached
    parameters: Interval | None = None
    tokens: Interval | None = None
    amounts: dict[str, Interval] = field(default_factory=dict)
    one_more: dict[str, Interval] = field(default_factory=dict)
    never: float = 0.0  # share of the laws that fit the runs in which no model reaches it
    beyond: float = 1.0  # x the FLOP of the largest run

    def to_json(self) -> dict[str, Any]:
        plain = {"task": self.goal.task, "accuracy": self.goal.accuracy, "bits_per_byte": self.bits}
        if self.why:
            return plain | {"refused": self.why}
        assert self.parameters is not None and self.tokens is not None
        return plain | {
            "parameters": self.parameters.to_json(),
            "tokens": self.tokens.to_json(),
            "cost": {axis: amount.to_json() for axis, amount in self.amounts.items()},
            "one_point_more": {axis: amount.to_json() for axis, amount in self.one_more.items()},
            "share_of_laws_that_never_reach_it": self.never,
            "times_the_largest_run": self.beyond,
        }


def read_goals(text: str) -> list[Goal]:
    """`hellaswag:0.7,mmlu:60%`. Raises UserError."""
    goals = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        match = re.fullmatch(r"(.+):\s*([0-9]*\.?[0-9]+)\s*(%?)", word)
        value = float(match[2]) / (100 if match[3] else 1) if match else 0.0
        if match is None or not 0 < value < 1:
            raise UserError(f"accuracy: {word!r} given, <task>:<accuracy between 0 and 1, or in %> wanted")
        goals.append(Goal(match[1].strip(), value))
    if not goals:
        raise UserError("accuracy: nothing given, <task>:<accuracy>[,...] wanted, such as hellaswag:0.70")
    return goals


def point_costs(laws: TaskLaws, goals: Sequence[Goal]) -> list[PointCost]:
    """Raises UserError for a task that the laws do not have, or say no accuracy of."""
    found = []
    for goal in goals:
        law = laws.laws.get(goal.task)
        if law is None:
            why = laws.refused.get(goal.task)
            there = ", ".join(laws.laws)
            known = f"{why}" if why else f"no such task{nearest(goal.task, laws.laws)}; there is {there}"
            raise UserError(f"accuracy: {goal.task}: {known}")
        if law.second is None:
            raise UserError(f"accuracy: {goal.task}: {law.why}")
        found.append(_cost(laws.table, law, goal))
    return found


def _cost(table: Table, law: TaskLaw, goal: Goal) -> PointCost:
    assert law.second is not None
    rate = price_rate(table, "flop", np.empty((0, len(table.runs))))
    largest = np.nanmax(table.column("flop"))
    theta = law.second.theta
    bits, more = (float(bits_for(theta[:1], goal.accuracy + step)[0]) for step in (0.0, POINT))
    if not np.isfinite(bits):
        return PointCost(goal, None, f"a model that only guesses is above it, at {theta[0, 0]:.3f}")
    if bits <= 0:
        most = accuracy_at(theta[:1], np.zeros(1))[0, 0]
        return PointCost(
            goal, None, f"at 0 bits per byte, where nothing can be predicted better, it would be {most:.3f}"
        )
    if rate is None:
        return PointCost(goal, bits, "no two of the runs state their FLOP")
    best = cheapest(law.first, bits, rate, largest)
    if best is None:
        return PointCost(goal, bits, _unreachable(law, bits))
    drawn = [cheapest_by_draws(law.draws, bits_for(theta[1:], goal.accuracy + step), rate) for step in (0.0, POINT)]
    after = cheapest(law.first, more, rate, largest) if goal.accuracy + POINT < 1 else None
    after = after or (np.inf, np.inf)
    stretch = law.stretch_accuracy
    never = float(np.mean(~np.isfinite(drawn[0][0])))
    amounts, one_more = {}, {}
    for axis in AXES:
        of_axis = price_rate(table, axis, np.empty((0, len(table.runs))))
        if of_axis is None:
            continue
        now, then = _price(of_axis, *best), _price(of_axis, *after)
        drawn_now, drawn_then = (_price(of_axis, *columns) for columns in drawn)
        amounts[axis] = _interval(now, drawn_now, stretch)
        with np.errstate(invalid="ignore"):  # infinite less infinite: never reached
            one_more[axis] = _interval(then - now, drawn_then - drawn_now, stretch)
    parameters, tokens = (_interval(value, column, stretch) for value, column in zip(best, drawn[0], strict=True))
    return PointCost(goal, bits, "", parameters, tokens, amounts, one_more, never, float(_price(rate, *best) / largest))


def _unreachable(law: TaskLaw, bits: float) -> str:
    floor = law.first.floor()
    low, high = np.percentile(law.draws[:, 0], [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    said = f"it needs {bits:.3f} bits per byte, and these runs"
    if bits <= floor:
        return f"{said} say that no model falls below {floor:.3f} ({low:.3f} to {high:.3f})"
    return f"{said} say that this takes more than {FARTHEST:,.0f} x the FLOP of the largest"


def _price(rate: Rate, parameters: Any, tokens: Any) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.exp(rate.log_k[0]) * np.power(parameters, rate.power[0]) * tokens


def cheapest(law: Averaged, bits: float, rate: Rate, largest: float) -> tuple[float, float] | None:
    """Parameters and tokens of the smallest k N^c D at which the averaged law is at `bits`; None where there is none
    within FARTHEST x the largest run."""
    n0, d0 = np.exp(law.pairs.centre)
    reach = np.log(FARTHEST * 1e3)
    sizes = np.exp(np.log(n0) + np.linspace(-reach / 2, reach / 2, SIZES))
    for _ in range(3):
        low, high = np.full(len(sizes), np.log(d0) - reach), np.full(len(sizes), np.log(d0) + reach)
        met = law.at(sizes, np.exp(high)) <= bits
        if not met.any():
            return None
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            enough = law.at(sizes, np.exp(middle)) <= bits
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        cost = np.where(met, _price(rate, sizes, np.exp(high)), np.inf)
        best = int(np.argmin(cost))
        found = float(sizes[best]), float(np.exp(high[best]))
        sizes = np.geomspace(sizes[max(best - 1, 0)], sizes[min(best + 1, len(sizes) - 1)], SIZES // 4)
    return found if cost[best] <= FARTHEST * largest else None


def cheapest_by_draws(draws: np.ndarray, bits: np.ndarray, rate: Rate) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and tokens [R] by constants [R, 5] for bits [R]; inf where a law does not get there.

    With u = A/N^alpha, v = B/D^beta and u + v = bits - E, the cost k N^c D is smallest at u : v = c / alpha : 1 / beta.
    """
    e, a, b, alpha, beta = draws.T
    c = max(float(rate.power[0]), 1e-3)
    left = bits - e
    part = left / (c / alpha + 1 / beta)
    ok = (left > 0) & (a > 0) & (b > 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_n = np.log(a * alpha / (c * part)) / alpha
        log_d = np.log(b * beta / part) / beta
        return tuple(np.where(ok, np.exp(np.clip(one, -300, 300)), np.inf) for one in (log_n, log_d))  # type: ignore[return-value]


def _interval(value: float, drawn: np.ndarray, stretch: float) -> Interval:
    """The middle 95% of the draws, stretched on a log scale; nan for an end where they are not reached."""
    drawn = np.where(np.isfinite(drawn) & (drawn > 0), drawn, np.inf)
    ends = np.quantile(drawn, [0.5 * (1 - LEVEL), 0.5 * (1 + LEVEL)], method="nearest")
    if not np.isfinite(value):
        return Interval(np.nan, np.nan, np.nan)
    low, high = (value * (end / value) ** stretch if np.isfinite(end) else np.nan for end in ends)
    return Interval(float(value), float(np.fmin(low, value)), float(np.maximum(high, value)))
