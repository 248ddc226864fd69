"""Laws of tasks as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trainer.books.formatting import format_amount
from trainer.scaling.accuracy.laws import CUTS, TaskLaws
from trainer.scaling.accuracy.point_cost import PointCost
from trainer.scaling.fit.resampling import Interval
from trainer.scaling.fit.text import big, number

FAR = 1.05  # x the FLOP of the largest run


def format_laws(laws: TaskLaws) -> list[str]:
    """What the two steps are, and how they did on runs that they had not seen."""
    runs = max(len(law.series.runs) for law in laws.laws.values())
    lines = [
        f"tasks     {runs} runs: bits per byte = E + A/N^alpha + B/D^beta, averaged over the exponents that fit;",
        "          accuracy = 1 - (1 - floor) / (1 + exp(-k (bits per byte - middle)))",
        f"  {'':<18}{'E':<10}{'floor':<10}{'k':<10}{'middle':<10}"
        + ("off on held-out runs: bits per byte, accuracy" if laws.held_out else ""),
    ]
    for task, law in laws.laws.items():
        theta = law.second.theta[0] if law.second else None
        constants = [theta[0], math.exp(theta[1]), theta[2]] if theta is not None else []
        cells = "".join(f"{one:<10}" for one in [number(law.first.floor()), *map(number, constants)])
        score = laws.held_out.get(task)
        off = _percent(score.bits) if score and score.bits is not None else ""
        off += f", {_percent(score.accuracy)}" if score and score.accuracy is not None else ""
        lines.append(f"  {task:<18}{cells}{off}" if law.second else f"  {task:<18}{cells}no accuracy: {law.why}")
    known = [one.accuracy for one in laws.held_out.values() if one.accuracy is not None]
    if known:
        shares = " and ".join(f"{share:.0%}" for share in CUTS)
        lines.append(
            f"  held out were the most expensive {shares} of the runs, up to {laws.reach:.3g} x the FLOP of the rest:"
        )
        lines.append(f"  accuracies were off by {_percent(float(np.mean(known)))} on average")
    elif not laws.held_out:
        lines.append("  held-out error not known: without the largest runs the rest is too poor to fit")
    return lines + [f"  {task}: not fitted: {why}" for task, why in laws.refused.items()]


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 0.995 else f"{share:.0%}"


def format_tasks(tasks: Mapping[str, Mapping[str, Mapping[str, float | None] | None]], place: str) -> list[str]:
    """A row a task, of what `tasks_at` returns."""
    lines = [f"tasks at {place}", f"  {'':<18}{'bits per byte':<28}accuracy      (95% of such runs)"]
    for task, scores in tasks.items():
        cells = [_range(scores[name]) for name in ("bits_per_byte", "accuracy")]
        lines.append(f"  {task:<18}{cells[0]:<28}{cells[1]}")
    return lines


def _range(figure: Mapping[str, float | None] | None) -> str:
    if figure is None:
        return "not known"
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def format_costs(costs: Sequence[PointCost], currency: str) -> list[str]:
    """What each accuracy costs, and one point more."""
    lines = []
    for cost in costs:
        lines += _format_cost(cost, currency)
    return lines


def _format_cost(cost: PointCost, currency: str) -> list[str]:
    goal = f"{cost.goal.task} at {cost.goal.accuracy:.4g}"
    if cost.why:
        return [f"{goal}   not reached: {cost.why}"]
    assert cost.parameters is not None and cost.tokens is not None and cost.bits is not None
    far = f"   (extrapolation: {cost.beyond:.3g} x the largest run)" if cost.beyond > FAR else ""
    lines = [
        f"{goal}   cheapest model{far}",
        f"  {'bits per byte':<14}{cost.bits:.3f}",
        f"  {'parameters':<14}{_amount(cost.parameters, big)}",
        f"  {'tokens':<14}{_amount(cost.tokens, big)}",
    ]
    for axis, amount in cost.amounts.items():
        write = _writer(axis, currency)
        name = {"flop": "FLOP", "kwh": "energy", "gco2e": "carbon", "money": "money"}[axis]
        more = cost.one_more[axis]
        said = (
            f"one point more {_amount(more, write)}" if math.isfinite(more.value) else "one point more is not reached"
        )
        lines.append(f"  {name:<14}{_amount(amount, write):<47}{said}")
    if cost.never > 0:
        lines.append(f"  in {cost.never:.0%} of the laws that fit these runs no model reaches it")
    return lines


def _writer(axis: str, currency: str) -> Callable[[float], str]:
    units = {"kwh": "kWh", "gco2e": "g CO2e", "money": currency}
    return (lambda x: f"{x:.3g}") if axis == "flop" else (lambda x: format_amount(x, units[axis]))


def _amount(figure: Interval, write: Callable[[float], str]) -> str:
    low, high = (write(end) if math.isfinite(end) else "no bound" for end in (figure.low, figure.high))
    return f"{write(figure.value)} ({low} to {high})"
