"""Accuracy against FLOP, and what the FLOP cost under it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.report.plots import GREY, canvas, drawn, label_axes
from trainer.scaling.accuracy.laws import TaskLaw, TaskLaws
from trainer.scaling.accuracy.point_cost import PointCost
from trainer.scaling.fit.advice import Rate, price_rate
from trainer.scaling.fit.table import AXES

BEYOND = 30.0  # x the FLOP of the largest run, at least
BUDGETS, SIZES = 32, 90
PANELS = 6  # tasks, at most, where none is asked for
UNDER = 0.6  # inches, of a price axis
HEIGHT = 4.2  # inches, without these


def accuracy_picture(laws: TaskLaws, costs: Sequence[PointCost] = ()) -> tuple[str, bytes, bytes] | None:
    """(title, SVG, PNG); None where no accuracy is known. Tasks that are asked for, else the first few."""
    none = np.empty((0, len(laws.table.runs)))
    rates = {axis: rate for axis in AXES if (rate := price_rate(laws.table, axis, none)) is not None}
    asked = {cost.goal.task for cost in costs}
    known = [law for law in laws.laws.values() if law.second]
    shown = [law for law in known if law.task in asked] or known[:PANELS]
    if not shown or "flop" not in rates:
        return None
    flop = laws.table.column("flop")
    last = max(BEYOND, *(cost.beyond * 3 for cost in costs if not cost.why), 0) * flop.max()
    budgets = np.geomspace(flop.min(), last, BUDGETS)
    title = "Accuracy against training FLOPs"
    others = [axis for axis in AXES if axis in rates and axis != "flop"]
    with canvas(6.8, HEIGHT + UNDER * len(others)) as (figure, axes):
        for law, colour in zip(shown, _colours(len(shown)), strict=True):
            sizes = _task(axes, law, rates["flop"], budgets, flop, colour)
        for cost in costs:
            if not cost.why:
                axes.plot(cost.amounts["flop"].value, cost.goal.accuracy, "*", color="black", markersize=9, zorder=4)
        axes.axvline(flop.max(), color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_xlim(budgets[0] / 1.3, budgets[-1] * 1.3)
        label_axes(axes, f"{title} (best of any size; dotted: largest run)", "training FLOPs", "accuracy")
        axes.legend(frameon=False, fontsize=7.5, handlelength=1.4)
        tokens = budgets / _per_token(rates["flop"], sizes)
        for number, axis in enumerate(others):
            label = {"kwh": "kWh", "gco2e": "g CO2e", "money": laws.table.currency or "money"}[axis]
            _price_axis(axes, budgets, _per_token(rates[axis], sizes) * tokens, label, number)
        below = 0.01 * len(others)  # which the layout leaves out of account
        figure.get_layout_engine().set(rect=(0, below, 1, 1 - below))
        return title, drawn(figure, "svg"), drawn(figure, "png")


def _per_token(rate: Rate, parameters: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(rate.log_k[0]) * parameters ** rate.power[0])


def _task(axes: Any, law: TaskLaw, rate: Rate, budgets: np.ndarray, flop: np.ndarray, colour: Any) -> np.ndarray:
    """The best of any size for each budget, its interval and the runs; returns the best sizes."""
    sizes = np.exp(law.first.pairs.centre[0]) * np.geomspace(1e-3, 1e4, SIZES)
    n = np.broadcast_to(sizes, (len(budgets), SIZES))
    d = budgets[:, None] / _per_token(rate, n)
    bits = law.first.at(n.ravel(), d.ravel()).reshape(n.shape)
    best = bits.argmin(axis=1)
    rows = np.arange(len(budgets))
    places = (n[rows, best], d[rows, best])
    value, low, high = np.array(law.accuracy(places)).T
    axes.plot(budgets, value, "-", color=colour, linewidth=1.4, label=law.task)
    axes.fill_between(budgets, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(flop[law.series.runs], law.series.accuracy, "o", color=colour, markersize=3)
    return places[0]


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


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    return [colours[number % len(colours)] for number in range(count)]
