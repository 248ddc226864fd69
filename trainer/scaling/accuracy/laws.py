"""Laws of tasks in two steps: size and tokens -> bits per byte of the right answer -> accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.scaling.accuracy.averaged import Averaged, average
from trainer.scaling.accuracy.series import Series, read_series, task_names
from trainer.scaling.accuracy.sigmoid import accuracy_at, fit_sigmoid
from trainer.scaling.fit.resampling import LEVEL, Interval
from trainer.scaling.fit.table import Table
from trainer.utils.errors import UserError, nearest

DRAWS = 200
RISE = 0.05  # of accuracy over its lower end, below which nothing can be said of it
CUTS = (0.25, 0.5)  # shares of the runs, the most expensive ones, that are held out
WAYS = ("ends", "later half")  # which rows the second step is fitted to
Places = tuple[np.ndarray, np.ndarray]  # parameters and tokens, [m] each
Scale = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Step:
    """The second step: constants [1 + R, 3] of the sigmoid, the fit first; and how far runs lie from it."""

    theta: np.ndarray
    noise: float  # standard deviation of an accuracy


@dataclass(frozen=True)
class TaskLaw:
    """Both steps of one task; without accuracy where nothing can be said of it."""

    series: Series
    first: Averaged
    draws: np.ndarray  # [R, 5], constants of the first step
    second: Step | None
    why: str = ""  # there is no second step
    stretch_bits: float = 1.0  # factor of an interval, by which held-out runs lie within it
    stretch_accuracy: float = 1.0

    @property
    def task(self) -> str:
        return self.series.task

    def bits(self, places: Places) -> list[Interval]:
        """Bits per byte that runs reach, with the middle 95% of them."""
        return self._bits(places)[0]

    def accuracy(self, places: Places) -> list[Interval]:
        """Accuracy that runs reach, with the middle 95% of them; through both steps."""
        assert self.second is not None
        value = accuracy_at(self.second.theta[:1], self.first.at(*places))[0]
        random = np.random.default_rng(1)
        drawn = accuracy_at(self.second.theta[1:], self._bits(places)[1])
        noise = np.hypot(self.second.noise, self.series.accuracy_scatter)
        drawn = np.clip(drawn + noise * random.standard_normal((len(drawn), 1)), 0.0, 1.0)
        return _around(value, drawn, self.stretch_accuracy, _logit, lambda x: 1 / (1 + np.exp(-x)))

    def law_bits(self, places: Places) -> np.ndarray:
        """[R, m]: draws of the first step, without the noise of a run."""
        e, a, b, alpha, beta = (self.draws[:, i, None] for i in range(5))
        n, d = np.log(places[0]), np.log(places[1])
        return np.asarray(np.maximum(e + a * np.exp(-alpha * n) + b * np.exp(-beta * d), 1e-6))

    def _bits(self, places: Places) -> tuple[list[Interval], np.ndarray]:
        random = np.random.default_rng(0)
        drawn = self.law_bits(places)
        noise = np.hypot(self.first.noise(), self.series.bits_scatter)
        drawn = drawn * np.exp(noise * random.standard_normal((len(drawn), 1)))
        return _around(self.first.at(*places), drawn, self.stretch_bits, np.log, np.exp), drawn


@dataclass(frozen=True)
class HeldOutTask:
    """What laws of the cheaper runs missed the others by: means of |predicted / measured - 1|; None where none of
    these states it."""

    bits: float | None
    accuracy: float | None


@dataclass(frozen=True)
class TaskLaws:
    """The laws of a table's tasks, and how they did on runs that they had not seen."""

    table: Table
    laws: dict[str, TaskLaw]
    refused: dict[str, str]
    way: str  # rows of the second step, of WAYS
    held_out: dict[str, HeldOutTask]
    reach: float | None  # largest FLOP of the runs over the largest of those that were fitted, where most was held out


def fit_tasks(table: Table, tasks: Sequence[str] = (), *, replicates: int = DRAWS, seed: int = 0) -> TaskLaws:
    """Laws of the tasks of a table, of all or of those named. All are fitted, as each says something of the others.

    Raises UserError where it has none of that name, or none that can be fitted.
    """
    there = task_names(table)
    if not there:
        raise UserError("no tasks: the table has no columns <task>_bits_per_byte and <task>_accuracy")
    for name in tasks:
        if name not in there:
            raise UserError(f"tasks: {name}: no such task{nearest(name, there)}; there is {', '.join(there)}")
    series = [read_series(table, name) for name in there]
    refused = {one.task: why for one in series if (why := one.lacks())}
    series = [one for one in series if one.task not in refused]
    if not series or (tasks and all(name in refused for name in tasks)):
        raise UserError(_all_refused(refused))
    draws = min(replicates, DRAWS)
    tests = [(test, _masked(series, ~test)) for test in _cuts(table)]
    tests = [(test, some) for test, some in tests if some and len(some) == len(series)]
    firsts = [_average(some) for _, some in tests]

    def fitted(way: str, count: int) -> Tests:
        return [(test, _fit(some, first, way, count, seed)) for (test, some), first in zip(tests, firsts, strict=True)]

    way = min(WAYS, key=lambda name: _error(series, fitted(name, 1)))
    held_out_laws = fitted(way, draws // 2)
    stretches = [_stretch(series, held_out_laws, kind) for kind in ("bits", "accuracy")]
    laws = [
        replace(law, stretch_bits=stretches[0], stretch_accuracy=stretches[1])
        for law in _fit(series, _average(series), way, draws, seed)
    ]
    held_out = {one.task: _held_out(one, k, held_out_laws) for k, one in enumerate(series)} if tests else {}
    flop = table.column("flop")
    reach = max((float(flop.max() / flop[~test].max()) for test, _ in tests), default=None)
    shown = set(tasks or there)
    return TaskLaws(
        table,
        {law.task: law for law in laws if law.task in shown},
        {name: why for name, why in refused.items() if name in shown},
        way,
        {name: score for name, score in held_out.items() if name in shown},
        reach,
    )


def _all_refused(refused: Mapping[str, str]) -> str:
    """Why, with the tasks of which it holds."""
    reasons = dict.fromkeys(refused.values())
    whose = (", ".join(name for name, one in refused.items() if one == why) for why in reasons)
    return "; ".join(f"{names}: {why}" for names, why in zip(whose, reasons, strict=True))


def _cuts(table: Table) -> list[np.ndarray]:
    """bool [runs] each: the most expensive runs."""
    flop = table.column("flop")
    order = np.argsort(np.argsort(flop, kind="stable"), kind="stable")
    return [order >= len(flop) - round(share * len(flop)) for share in CUTS]


def _masked(series: Sequence[Series], keep: np.ndarray) -> list[Series]:
    return [some for one in series if not (some := one.only(keep)).lacks()]


def _average(series: Sequence[Series]) -> list[Averaged]:
    return average([(one.parameters, one.tokens, one.bits) for one in series])


def _fit(series: Sequence[Series], firsts: Sequence[Averaged], way: str, draws: int, seed: int) -> list[TaskLaw]:
    random = np.random.default_rng(seed)
    laws = []
    for one, first in zip(series, firsts, strict=True):
        second, why = _second(one, way, draws, random)
        laws.append(TaskLaw(one, first, first.draw(draws, random), second, why))
    return laws


def _second(one: Series, way: str, draws: int, random: np.random.Generator) -> tuple[Step | None, str]:
    """Replicates draw runs, with all rows of each."""
    ends = way == "ends"
    bits, accuracy = (one.bits, one.accuracy) if ends else (one.way_bits, one.way_accuracy)
    run = np.arange(len(bits)) if ends else one.way_run
    known = np.isfinite(accuracy)
    if known.sum() < 3:
        return None, "no accuracy is stated" if not known.any() else "fewer than three accuracies are stated"
    bits, accuracy, run = bits[known], accuracy[known], run[known]
    lowest = one.guess if one.guess is not None else float(accuracy.min())
    best = np.sort(accuracy)[-max(1, len(accuracy) // 10) :].mean()
    if best < lowest + RISE:
        return None, f"its accuracy ({best:.3f}) does not rise above that of a guess in these runs"
    runs = len(one.bits)
    counts = random.multinomial(runs, np.full(runs, 1 / runs), size=draws)[:, run].astype(float)
    counts[counts.sum(axis=1) == 0] = 1.0
    rows = np.bincount(run, minlength=runs)[run]
    weights = np.concatenate([np.ones((1, len(bits))), counts]) / rows
    theta = fit_sigmoid(bits, accuracy, weights, one.guess)
    residual = accuracy - accuracy_at(theta[:1], bits)[0]
    return Step(theta, float(np.sqrt(weights[0] @ residual**2 / weights[0].sum()))), ""


Tests = Sequence[tuple[np.ndarray, list[TaskLaw]]]


def _misses(one: Series, law: TaskLaw, test: np.ndarray, kind: str) -> tuple[np.ndarray, list[Interval]]:
    """What was measured in the runs that were held out, and what had been predicted."""
    out = one.only(test)
    known = np.isfinite(out.bits if kind == "bits" else out.accuracy)
    places = (out.parameters[known], out.tokens[known])
    if kind == "bits":
        return out.bits[known], law.bits(places)
    return (out.accuracy[known], law.accuracy(places)) if law.second else (np.empty(0), [])


def _relative(one: Series, law: TaskLaw, test: np.ndarray, kind: str) -> np.ndarray:
    """[m], over the values above 0: to an accuracy of 0 nothing is relative."""
    truth, predicted = _misses(one, law, test, kind)
    values = np.array([guess.value for guess in predicted])
    return np.abs(values[truth > 0] / truth[truth > 0] - 1)


def _held_out(one: Series, number: int, tests: Tests) -> HeldOutTask:
    both = (
        np.concatenate([_relative(one, laws[number], test, kind) for test, laws in tests])
        for kind in ("bits", "accuracy")
    )
    return HeldOutTask(*(float(errors.mean()) if len(errors) else None for errors in both))


def _error(series: Sequence[Series], tests: Tests) -> float:
    """Mean over the tasks of the relative error of held-out accuracies."""
    found = [_held_out(one, k, tests).accuracy for k, one in enumerate(series)] if tests else []
    known = [error for error in found if error is not None]
    return float(np.mean(known)) if known else 0.0


def _stretch(series: Sequence[Series], tests: Tests, kind: str) -> float:
    """The factor by which intervals have to be wider for 95% of the held-out values to lie inside; at least 1."""
    forward = np.log if kind == "bits" else _logit
    shares = []
    for test, laws in tests:
        for one, law in zip(series, laws, strict=True):
            truth, predicted = _misses(one, law, test, kind)
            if len(truth):
                value, low, high = (forward(np.array(column)) for column in zip(*predicted, strict=True))
                off = forward(truth) - value
                shares.append(np.abs(off) / np.maximum(np.where(off > 0, high - value, value - low), 1e-9))
    return max(1.0, float(np.quantile(np.concatenate(shares), LEVEL))) if shares else 1.0


def _around(value: np.ndarray, drawn: np.ndarray, stretch: float, forward: Scale, back: Scale) -> list[Interval]:
    """Intervals of the draws [R, m], stretched around the value [m] on the scale of `forward`."""
    low, high = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    middle = forward(value)
    low = back(middle - stretch * np.maximum(middle - forward(low), 0))
    high = back(middle + stretch * np.maximum(forward(high) - middle, 0))
    return [Interval(float(a), float(b), float(c)) for a, b, c in zip(value, low, high, strict=True)]


def _logit(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(share / (1 - share)))
