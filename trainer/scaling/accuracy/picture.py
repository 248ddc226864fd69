"""Accuracy against FLOP, and what the FLOP cost under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainer.report.plots import BLACK, Curve, Picture, Plot, Span, picture
from trainer.scaling.accuracy.laws import Places, TaskLaw, TaskLaws
from trainer.scaling.accuracy.point_cost import PointCost
from trainer.scaling.fit.advice import Rate, price_rate
from trainer.scaling.fit.table import AXES, Table

BEYOND = 30.0  # x the FLOP of the largest run, at least
BUDGETS, SIZES = 32, 90
PANELS = 6  # tasks, at most, where none is asked for
UNDER = 0.6  # inches, of a price axis
HEIGHT = 4.2  # inches, without these


def accuracy_picture(laws: TaskLaws, costs: Sequence[PointCost] = ()) -> Picture | None:
    """None where no accuracy is known. Tasks that are asked for, else the first few."""
    none = np.empty((0, len(laws.table.runs)))
    rates = {axis: rate for axis in AXES if (rate := price_rate(laws.table, axis, none)) is not None}
    asked = {cost.goal.task for cost in costs}
    known = [law for law in laws.laws.values() if law.second]
    shown = [law for law in known if law.task in asked] or known[:PANELS]
    if not shown or "flop" not in rates:
        return None
    flop, rate = laws.table.column("flop"), rates.pop("flop")
    reached = [cost for cost in costs if not cost.why]
    budgets = np.geomspace(flop.min(), max(BEYOND, *(cost.beyond * 3 for cost in reached), 0) * flop.max(), BUDGETS)
    labels = {"kwh": "kWh", "gco2e": "g CO2e", "money": laws.table.currency or "money"}
    priced = {labels[axis]: price for axis, price in rates.items()}
    curves = []
    for law, colour in zip(shown, _colours(len(shown)), strict=True):
        places = _best(law, rate, budgets)
        amounts = {label: _per_token(price, places[0]) * places[1] for label, price in priced.items()}
        curves += [_law(law, places, amounts, budgets, colour), _runs(law, laws.table, colour)]
    for cost in reached:
        at, called = [cost.amounts["flop"].value], f"{cost.goal.task}, asked for"
        curves.append(Curve("", at, [cost.goal.accuracy], BLACK, "", "*", size=9, called=called))
    title = "Accuracy against training FLOPs (best of any size; dotted: largest run)"
    largest = Span("x", float(flop.max()), float(flop.max()), style=":")

    def prices(figure: Any, axes: Any) -> None:
        axes.set_xlim(budgets[0] / 1.3, budgets[-1] * 1.3)
        for number, (label, amount) in enumerate(amounts.items()):
            _price_axis(axes, budgets, amount, label, number)
        below = 0.01 * len(amounts)  # which the layout leaves out of account
        figure.get_layout_engine().set(rect=(0, below, 1, 1 - below))

    plot = Plot(title, "training FLOPs", "accuracy", curves, spans=[largest], x_log=True)
    return picture(plot, 6.8, HEIGHT + UNDER * len(priced), prices)


def _per_token(rate: Rate, parameters: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(rate.log_k[0]) * parameters ** rate.power[0])


def _best(law: TaskLaw, rate: Rate, budgets: np.ndarray) -> Places:
    """Parameters and tokens, [m] each, of the best of any size for each budget."""
    sizes = np.exp(law.first.pairs.centre[0]) * np.geomspace(1e-3, 1e4, SIZES)
    n = np.broadcast_to(sizes, (len(budgets), SIZES))
    d = budgets[:, None] / _per_token(rate, n)
    best = law.first.at(n.ravel(), d.ravel()).reshape(n.shape).argmin(axis=1)
    rows = np.arange(len(budgets))
    return n[rows, best], d[rows, best]


def _law(law: TaskLaw, places: Places, amounts: Mapping[str, np.ndarray], budgets: np.ndarray, colour: str) -> Curve:
    """Accuracy of the best of each budget with its interval, and what it costs."""
    value, low, high = np.array(law.accuracy(places)).T.tolist()
    more = [", ".join(f"{amount[k]:.3g} {label}" for label, amount in amounts.items()) for k in range(len(budgets))]
    return Curve(law.task, budgets.tolist(), value, colour, width=1.4, low=low, high=high, more=more)


def _runs(law: TaskLaw, table: Table, colour: str) -> Curve:
    flop = table.column("flop")[law.series.runs]
    order = np.argsort(flop, kind="stable")
    names = [f"{law.task}, {table.runs[run].name}" for run in law.series.runs[order]]
    return Curve("", flop[order].tolist(), law.series.accuracy[order].tolist(), colour, "", "o", names=names)


def _price_axis(axes: Any, flop: np.ndarray, amount: np.ndarray, label: str, number: int) -> None:
    """A second axis under the first, of what the best model of each budget costs."""
    x, y = np.log(flop), np.log(amount)
    ends = [np.polyfit(x[some], y[some], 1) for some in (slice(0, 4), slice(-4, None))]
    far = np.array([x[0] - 50, x[-1] + 50])
    x, y = (
        np.concatenate([far[:1], x, far[1:]]),
        np.concatenate([[np.polyval(ends[0], far[0])], y, [np.polyval(ends[1], far[1])]]),
    )
    under = axes.secondary_xaxis(
        -0.19 - 0.16 * number, functions=(lambda v: _mapped(v, x, y), lambda v: _mapped(v, y, x))
    )
    under.set_xlabel(label, labelpad=1)


def _mapped(value: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(np.interp(np.log(np.maximum(value, 1e-300)), x, y)))


def _colours(count: int) -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    return [to_hex(colours[number % len(colours)]) for number in range(count)]
