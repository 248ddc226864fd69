"""What a run was asked as it trained, as pictures and as a table of its page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import product
from typing import Any

from trainer.report.html_template import html_table
from trainer.report.plots import GREY, Curve, Plot, is_number
from trainer.report.run_data import RunData
from trainer.report.task_points import TaskPoint, in_the_loop
from trainer.trackers.scores import flat, said_task

COLOURS = ("#2563ab", "#c2571a", "#3f8f4f", "#7a4fa0", "#b0892f", "#2f8fa0", "#b03060", "#555b66")
STYLES = ("-", "--", ":", "-.")
FIGURES = {
    "bits_per_byte": ("Tasks: bits per byte of the right answer", "bits per byte"),
    "accuracy": ("Tasks: accuracy", "share of right answers"),
}


def task_plots(run_data: RunData) -> list[Plot]:
    """Bits per byte and accuracy against tokens, a curve a task; and what other evaluations found, a plot each."""
    points = in_the_loop(run_data)
    drawn = [Plot(title, "tokens", label, _curves(points, figure)) for figure, (title, label) in FIGURES.items()]
    chances = {one.get("chance") for _, one in last_tasks(run_data)[1].items()}
    if drawn[1].curves and len(chances) == 1 and is_number(chance := chances.pop()) and chance is not None:
        x = [points[0].tokens, points[-1].tokens]
        drawn[1].curves.append(Curve("chance", x, [chance, chance], GREY, "--"))
    return drawn + _others(run_data)


def _curves(points: list[TaskPoint], figure: str) -> list[Curve]:
    by_task: dict[str, list[TaskPoint]] = {}
    for one in points:
        if getattr(one, figure) is not None:
            by_task.setdefault(one.task, []).append(one)
    looks = product(STYLES, COLOURS)
    return [
        Curve(name, [one.tokens for one in many], [getattr(one, figure) for one in many], colour, style, ".")
        for (name, many), (style, colour) in zip(by_task.items(), looks, strict=False)
    ]


def _others(run_data: RunData) -> list[Plot]:
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for record in run_data.evaluations:
        scores = record.get("scores")
        for name, numbers in (scores if isinstance(scores, Mapping) else {}).items():
            if name == "tasks" or not isinstance(numbers, Mapping) or not is_number(record.get("tokens")):
                continue
            for key, value in flat(numbers).items():
                found.setdefault(name, {}).setdefault(key, []).append((record["tokens"], value))
    return [
        Plot(
            name,
            "tokens",
            "",
            [
                Curve(key, [x for x, _ in both], [y for _, y in both], colour, style, ".")
                for (key, both), (style, colour) in zip(by_key.items(), product(STYLES, COLOURS), strict=False)
            ],
        )
        for name, by_key in found.items()
    ]


def last_tasks(run_data: RunData) -> tuple[int, dict[str, Mapping[str, Any]]]:
    """Step and scores of the last time that the loop asked tasks; none: (0, {})."""
    for record in reversed(run_data.evaluations):
        scores = record.get("scores")
        tasks = scores.get("tasks") if isinstance(scores, Mapping) else None
        if isinstance(tasks, Mapping) and tasks:
            return int(record["step"]), {str(name): one for name, one in tasks.items() if isinstance(one, Mapping)}
    return 0, {}


def task_table(run_data: RunData) -> str:
    """HTML of the last point, empty where the loop asked nothing."""
    step, tasks = last_tasks(run_data)
    if not tasks:
        return ""
    table = html_table(["task", "last point"], ((name, said_task(one)) for name, one in tasks.items()))
    measures = sorted({str(one["measure"]) for one in tasks.values() if one.get("measure")})
    by = f"; answers were scored by {escape(' and '.join(measures))}" if measures else ""
    return f"<p>Asked in the loop, after step {step}; +- is one standard error{by}.</p>{table}"
