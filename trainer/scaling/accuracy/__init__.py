"""From loss to accuracy: laws of tasks over size and tokens, and what a point of accuracy costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.report.html_template import html_document, in_words
from trainer.report.live_plots import figures, live
from trainer.report.plots import Picture
from trainer.scaling.accuracy.laws import TaskLaws, fit_tasks
from trainer.scaling.accuracy.picture import accuracy_picture
from trainer.scaling.accuracy.point_cost import Goal, PointCost, point_costs, read_goals
from trainer.scaling.accuracy.predict import extrapolation, laws_json, tasks_at
from trainer.scaling.accuracy.series import task_names
from trainer.scaling.accuracy.text import format_costs, format_laws, format_tasks
from trainer.scaling.fit.table import Table
from trainer.scaling.fit.text import big
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

__all__ = [
    "Goal",
    "PointCost",
    "TaskFindings",
    "TaskLaws",
    "find_tasks",
    "fit_tasks",
    "format_tasks",
    "read_goals",
    "task_names",
    "tasks_at",
    "write_tasks",
]


@dataclass(frozen=True)
class TaskFindings:
    """What a table says about tasks: their laws, models at the places asked for, and what accuracies cost."""

    laws: TaskLaws
    places: list[Mapping[str, float]]
    costs: list[PointCost]

    def beside(self, point: Mapping[str, float], _: Any = None) -> dict[str, Any]:
        """The key `tasks` of a prediction, for its parameters and tokens."""
        return {"tasks": tasks_at(self.laws, point["parameters"], point["tokens"])} if "tokens" in point else {}

    def format(self) -> str:
        blocks = [format_laws(self.laws)]
        for place in self.places:
            factor, axis = extrapolation(self.laws.table, place)
            far = f"   (extrapolation: {factor:.3g} x in {axis})" if axis else ""
            said = f"{big(place['parameters'])} parameters, {big(place['tokens'])} tokens{far}"
            blocks.append(format_tasks(self.beside(place)["tasks"], said))
        blocks.append(format_costs(self.costs, self.laws.table.currency))
        return "\n\n".join("\n".join(lines) for lines in blocks if lines)

    def to_json(self) -> dict[str, Any]:
        """Keys of fit.json."""
        return {"tasks": laws_json(self.laws), "accuracy": [cost.to_json() for cost in self.costs]}

    def pictures(self) -> dict[str, Picture]:
        """By name."""
        picture = accuracy_picture(self.laws, self.costs)
        return {"accuracy": picture} if picture else {}


def find_tasks(
    table: Table,
    *,
    tasks: Sequence[str] = (),
    goals: Sequence[Goal] = (),
    points: Sequence[Mapping[str, float]] = (),
    replicates: int = 400,
    seed: int = 0,
) -> TaskFindings | None:
    """None where a table has no tasks, or too few runs for a law of any, and none was asked for.

    tasks: those to fit; all where none is named. points: places of `predict=`. Raises UserError for a task that is not
    there or cannot be fitted.
    """
    asked = [*tasks, *(goal.task for goal in goals if tasks)]
    if not (asked or goals) and not task_names(table):
        return None
    try:
        laws = fit_tasks(table, asked, replicates=replicates, seed=seed)
    except UserError:
        if asked or goals or table.states_no_loss:
            raise
        return None
    places = [point for point in points if "tokens" in point]
    if len(places) < len(points) and table.states_no_loss:
        raise UserError("predict: what a model reaches in tasks needs its tokens, too: <parameters>@<tokens>")
    return TaskFindings(laws, places, point_costs(laws, goals))


def write_tasks(found: TaskFindings, folder: Path, title: str) -> dict[str, Any]:
    """fit.json, fit.html and the picture where a table states no loss; returns what fit.json holds."""
    folder.mkdir(parents=True, exist_ok=True)
    made = found.pictures()
    keys = ("parameters", "tokens")
    predictions = []
    for place in found.places:
        factor, axis = extrapolation(found.laws.table, place)
        far = {"extrapolation": factor, "extrapolation_axis": axis or None}
        predictions.append({**{key: place[key] for key in keys}, "loss": None, **far, **found.beside(place)})
    facts = {"predictions": predictions, **found.to_json()}
    for name, one in made.items():
        write_atomic(folder / f"{name}.svg", one.svg)
        write_atomic(folder / f"{name}.png", one.png)
    on_page = live([one.plot for one in made.values()])
    sections = {"": figures(list(made.values())), "In words": in_words(found.format())}
    write_atomic(folder / "fit.json", json.dumps(facts, indent=1) + "\n")
    runs = f"{len(found.laws.table.runs)} runs"
    page = html_document(f"Laws of tasks of {title}", runs, sections, on_page.html, on_page.hashes)
    write_atomic(folder / "fit.html", page)
    return facts
