"""A grid over sizes as a picture: the table of papers above, and under it what each score cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.report.plots import GREY, PALE, canvas, drawn, prefixes
from trainer.scaling.grid.efficiency import TaskCurve, task_curves, untransformed
from trainer.scaling.grid.results import Point, Results

# Twelve that are told apart, with four markers against doubt.
COLOURS = (
    *("#2563ab", "#c2571a", "#3b7d4f", "#8b3fa8", "#b8901b", "#1d9aa3"),
    *("#c43c6e", "#6b7280", "#7a4a21", "#5b73e0", "#7fae2b", "#111827"),
)
MARKERS = "osD^"
PRICES = {"kwh": "kWh", "money": "money"}
AXIS_HEIGHT = 0.2  # of one more axis under a panel, as a share of its height


def scores_and_prices(results: Results) -> tuple[bytes, bytes]:
    """(SVG, PNG). Above: a row an objective, a column a task, a dot a size, the largest filled. Below: score over the
    FLOPs of pre-training, with axes of kWh and money beneath where the runs state them."""
    tasks = list(results.grid.tasks)
    curves, _ = task_curves(results, replicates=20)
    prices = {axis: line for axis in PRICES if (line := _price_line(results, axis)) is not None}
    height = 1.1 + 0.26 * len(results.grid.objectives), 3.0 + 0.45 * len(prices)
    with canvas(2.2 + 3.0 * len(tasks), sum(height) + 0.6) as (figure, first):
        first.remove()
        panels = figure.subplots(2, len(tasks), squeeze=False, height_ratios=height)
        for number, task in enumerate(tasks):
            _table(panels[0, number], results, task, names=number == 0)
            _curve(panels[1, number], results, task, curves.get(task), prices)
        handles, labels = panels[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        return drawn(figure, "svg"), drawn(figure, "png")


def _style(results: Results, objective: str) -> dict[str, Any]:
    number = list(results.grid.objectives).index(objective)
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _factor(results: Results, task: str) -> tuple[float, str]:
    """What scores are multiplied with, and how they are named."""
    score = results.grid.tasks[task].score
    return (1.0, "perplexity, less is better") if score == "perplexity" else (100.0, f"{score}, %")


def _table(axes: Any, results: Results, task: str, *, names: bool) -> None:
    objectives, sizes = list(results.grid.objectives)[::-1], results.sizes
    factor, unit = _factor(results, task)
    for row in results.rows:
        score = row.scores[task]
        if score is None or row.size is None:
            continue
        share = (sizes.index(row.size) + 1) / len(sizes)
        place, style = objectives.index(row.objective), _style(results, row.objective)
        half = factor * (score.half_width or 0)
        if row.size == sizes[-1]:
            axes.errorbar([factor * score.mean], [place], xerr=[half], fmt="none", ecolor=style["color"], capsize=2)
        filled = style["color"] if row.size == sizes[-1] else "white"
        axes.plot(
            [factor * score.mean], [place], linestyle="", markersize=2.5 + 4 * share, markerfacecolor=filled, **style
        )
    for level in results.baselines.get(task, {}).values():
        axes.axvline(100 * level, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_title(task, loc="left", fontsize=10)
    axes.set_xlabel(unit)
    axes.set_yticks(range(len(objectives)), objectives if names else [""] * len(objectives))
    axes.set_ylim(-0.6, len(objectives) - 0.4)
    _plain(axes)


def _curve(
    axes: Any, results: Results, task: str, curve: TaskCurve | None, prices: dict[str, tuple[float, float]]
) -> None:
    factor, unit = _factor(results, task)
    points = [point for point in results.points if point.task == task and point.costs["flop"]]
    for objective in results.grid.objectives:
        own = [point for point in points if point.objective == objective]
        style = _style(results, objective)
        x, y = _means(own)
        axes.plot(x, factor * y, linestyle="", markersize=4.5, label=objective, **style)
        if curve is None or objective not in curve.objectives or len(x) < 2:
            continue
        line = np.linspace(np.log(x.min()), np.log(x.max()), 40)
        shift = curve.shifts[0, curve.objectives.index(objective)]
        rising = curve.level + curve.slope[0] * (line - shift)
        if curve.slope[0] > 0:
            fitted = untransformed(rising, results.grid.tasks[task].score)
            axes.plot(np.exp(line), factor * fitted, color=style["color"], linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(_twos_and_fives())
    axes.set_ylabel(unit)
    axes.set_xlabel("FLOP of pre-training")
    axes.yaxis.set_major_formatter(prefixes())
    _plain(axes)
    for number, (axis, (level, power)) in enumerate(prices.items(), 1):
        name = (results.currency or "money") if axis == "money" else PRICES[axis]
        beneath = axes.secondary_xaxis(-AXIS_HEIGHT - 0.26 * (number - 1) - 0.06, functions=_conversion(level, power))
        beneath.xaxis.set_minor_formatter(_twos_and_fives())
        beneath.set_xlabel(f"{name}, at the mean price of these FLOPs")


def _twos_and_fives() -> Any:
    """Labels of a logarithmic axis beside its powers of ten, which alone would be one or none here."""
    from matplotlib.ticker import FuncFormatter

    def label(value: float, _: int) -> str:
        power = int(np.floor(np.log10(value) + 1e-9))
        first = round(value / 10.0**power)
        return rf"${first} \times 10^{{{power}}}$" if first in (2, 5) else ""

    return FuncFormatter(label)


def _conversion(level: float, power: float) -> tuple[Any, Any]:
    """FLOPs to an amount, and back."""

    def there(flop: Any) -> Any:
        return np.exp(level + power * np.log(np.maximum(flop, 1e-300)))

    def back(amount: Any) -> Any:
        return np.exp((np.log(np.maximum(amount, 1e-300)) - level) / power)

    return there, back


def _price_line(results: Results, axis: str) -> tuple[float, float] | None:
    """log amount = level + power log FLOP over all runs; None where not all state it."""
    costs = [point.costs for point in results.points if point.costs["flop"]]
    if len(costs) < 2 or not all(cost[axis] for cost in costs):
        return None
    x, y = (np.log([cost[name] for cost in costs]) for name in ("flop", axis))  # type: ignore[arg-type]
    if np.ptp(x) < 1e-9:
        return float(np.mean(y - x)), 1.0
    power, level = np.polyfit(x, y, 1)
    return (float(level), float(power)) if power > 0.05 else (float(np.mean(y - x)), 1.0)


def _means(points: list[Point]) -> tuple[np.ndarray, np.ndarray]:
    """FLOPs and score of each size, means over its seeds."""
    sizes = dict.fromkeys(point.size for point in points)
    rows = [
        (
            np.mean([p.costs["flop"] for p in points if p.size == size]),
            np.mean([p.value for p in points if p.size == size]),
        )
        for size in sizes
    ]
    return np.array([x for x, _ in rows]), np.array([y for _, y in rows])


def _plain(axes: Any) -> None:
    axes.grid(True, color=PALE, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
