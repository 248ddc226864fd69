"""What a run can do, as part of its page: the scores of its tasks, and the in-context curve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from trainer.evaluate.results import HEADS, notes_on, read_results, table_of
from trainer.report.html_template import images
from trainer.report.plots import address, canvas, drawn, label_axes

COLOURS = ("#2563ab", "#c2571a", "#3f8f4f", "#7a4fa0", "#8a8f98")


def section(run: Path) -> str:
    """HTML, empty where no task was evaluated."""
    known = read_results(run)
    tasks = known.get("tasks") or []
    if not tasks:
        return ""
    heads = "".join(f"<th{' class=n' if place else ''}>{escape(head)}</th>" for place, head in enumerate(HEADS))
    lines = [f"<p>Checkpoint of step {known['step']}; +- is one standard error.</p><table><tr>{heads}</tr>"]
    for row in table_of(tasks):
        cells = "".join(f"<td{' class=n' if place else ''}>{escape(cell)}</td>" for place, cell in enumerate(row))
        lines.append(f"<tr>{cells}</tr>".replace("<td>  ", "<td>&nbsp;&nbsp;"))
    notes = "".join(f"<p>{escape(note)}</p>" for note in notes_on(tasks))
    picture = in_context_picture(tasks, "svg")
    curve = images({"in-context curve": address(picture)}) if picture else ""
    return "".join(lines) + "</table>" + notes + curve


def in_context_picture(tasks: Sequence[dict[str, Any]], kind: Any) -> bytes | None:
    """Score over the number of examples in the context, for tasks asked with several numbers; None without any.

    Bars are one standard error; the dashed line is chance. Without the scores of contexts that were cut: these do not
    hold so many examples.
    """
    by_task: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in tasks:
        if not one.get("shortened"):
            by_task[one["task"]].append(one)
    several = {name: sorted(many, key=lambda one: one["shots"]) for name, many in by_task.items() if len(many) > 1}
    if not several:
        return None
    shots = sorted({one["shots"] for many in several.values() for one in many})
    with canvas() as (figure, axes):
        for colour, (name, many) in zip(COLOURS * len(several), several.items(), strict=False):
            values = [next(iter(one["values"].values())) for one in many]
            places = [shots.index(one["shots"]) for one in many]
            errors = [value["standard_error"] or 0.0 for value in values]
            heights = [value["value"] for value in values]
            axes.errorbar(places, heights, errors, color=colour, marker="o", markersize=3, capsize=2, label=name)
        chances = {one["chance"] for many in several.values() for one in many}
        if len(chances) == 1 and None not in chances:
            axes.axhline(chances.pop(), color="#8a8f98", linestyle="--", linewidth=1, label="chance")
        axes.set_xticks(range(len(shots)), [str(number) for number in shots])
        label_axes(
            axes, "In-context curve", "examples in the context", next(iter(next(iter(several.values()))[0]["values"]))
        )
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
        return drawn(figure, kind)
