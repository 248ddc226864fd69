"""What a run can do, as part of its page: the scores of its tasks, and the in-context curve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from trainer.evaluate.results import HEADS, notes_on, read_results, table_of
from trainer.report.html_template import html_table
from trainer.report.live_plots import pictures
from trainer.report.plots import Curve, Plot, Span, picture

COLOURS = ("#2563ab", "#c2571a", "#3f8f4f", "#7a4fa0", "#8a8f98")


def section(run: Path, number: int = 0) -> tuple[str, list[Plot]]:
    """HTML, empty where no task was evaluated; and the plot in it, if there is one. number: its place on the page."""
    known = read_results(run)
    tasks = known.get("tasks") or []
    if not tasks:
        return "", []
    table = html_table(HEADS, table_of(tasks), numbers=range(1, len(HEADS)))
    notes = "".join(f"<p>{escape(note)}</p>" for note in notes_on(tasks))
    plot = in_context_plot(tasks)
    plots = [plot] if plot else []
    said = f"<p>Checkpoint of step {known['step']}; +- is one standard error.</p>"
    return said + table + notes + (pictures(plots, first=number) if plots else ""), plots


def in_context_plot(tasks: Sequence[dict[str, Any]]) -> Plot | None:
    """Score over the number of examples in the context, for tasks asked with several numbers; None without any.

    The interval is one standard error; the dashed line is chance. Without the scores of contexts that were cut: these
    do not hold so many examples.
    """
    by_task: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in tasks:
        if not one.get("shortened"):
            by_task[one["task"]].append(one)
    several = {name: sorted(many, key=lambda one: one["shots"]) for name, many in by_task.items() if len(many) > 1}
    if not several:
        return None
    shots = sorted({one["shots"] for many in several.values() for one in many})
    curves = []
    for colour, (name, many) in zip(COLOURS * len(several), several.items(), strict=False):
        values = [next(iter(one["values"].values())) for one in many]
        places = [float(shots.index(one["shots"])) for one in many]
        errors = [value["standard_error"] or 0.0 for value in values]
        heights = [value["value"] for value in values]
        low, high = ([y + sign * error for y, error in zip(heights, errors, strict=True)] for sign in (-1, 1))
        curves.append(Curve(name, places, heights, colour, marker="o", low=low, high=high))
    chances = {one["chance"] for many in several.values() for one in many}
    spans = []
    if len(chances) == 1 and None not in chances:
        chance = chances.pop()
        spans = [Span("y", chance, chance, "chance", style="--")]
    figure = next(iter(next(iter(several.values()))[0]["values"]))
    ticks = {float(place): str(number) for place, number in enumerate(shots)}
    words = "In-context curve", "examples in the context", figure
    return Plot(*words, curves, spans=spans, x_ticks=ticks, from_zero=True)


def in_context_picture(tasks: Sequence[dict[str, Any]]) -> bytes | None:
    """The same as a PNG."""
    plot = in_context_plot(tasks)
    return None if plot is None else picture(plot, 5.2, 3.1).png
