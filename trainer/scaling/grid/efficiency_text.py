"""The efficiency factors of a grid as a table of cells, and what must be read with it."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.scaling.efficiency.text import format_factor
from trainer.scaling.grid.efficiency import AXES, Factor, ObjectiveEfficiency
from trainer.scaling.grid.results import Results


def factor_table(results: Results, found: Sequence[ObjectiveEfficiency]) -> list[list[str]]:
    """Rows of cells, the titles first; empty where nothing was compared."""
    if not found:
        return []
    tasks = list(results.grid.tasks)
    axes = [axis for axis in AXES if axis != "flop" and any(axis in one.whole.figures for one in found)]
    names = {"kwh": "kWh", "money": results.currency or "money"}
    table = [
        [
            "objective",
            "FLOP, all tasks",
            *(f"FLOP, {task}" for task in tasks),
            *(f"{names[axis]}, all tasks" for axis in axes),
        ]
    ]
    table.append([next(iter(results.grid.objectives)), *["1"] * (1 + len(tasks) + len(axes))])
    for one in found:
        cells = [_cell(one.tasks.get(task), "flop") for task in tasks]
        table.append([one.objective, _cell(one.whole, "flop"), *cells, *(_cell(one.whole, axis) for axis in axes)])
    return table


def factor_title(results: Results) -> str:
    return f"Times the pre-training of {next(iter(results.grid.objectives))} for the same score"


def _cell(factor: Factor | None, axis: str) -> str:
    if factor is None:
        return "-"
    if not factor.determined:
        return "not determined"
    return format_factor(factor.figures[axis]) if axis in factor.figures else "not stated"


def factor_notes(results: Results, found: Sequence[ObjectiveEfficiency]) -> list[str]:
    """What the factors are, and what to doubt of them."""
    if not results.sizes:
        return []
    first = next(iter(results.grid.objectives))
    if not found:
        return [f"No efficiency factors: they need scores of {first} at two sizes or more."]
    lines = [
        f"Efficiency: how many times the compute of {first}'s pre-training an objective needs for the same score, by "
        "one curve of score over the logarithm of compute for all objectives (shares as logits, perplexity as a power "
        "of compute), with 95% intervals over sizes and seeds.",
    ]
    for one in found:
        unknown = {task: factor.why for task, factor in one.tasks.items() if not factor.determined}
        lines += [f"{one.objective} on {task}, not determined: {why}." for task, why in unknown.items()]
        lines += [f"{one.objective}: {doubt}." for doubt in one.doubts]
    return lines
