"""From loss to accuracy: laws of tasks over size and tokens, and what a point of accuracy costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.scaling.accuracy.laws import TaskLaws, fit_tasks
from trainer.scaling.accuracy.picture import accuracy_picture
from trainer.scaling.accuracy.point_cost import Goal, PointCost, point_costs, read_goals
from trainer.scaling.accuracy.predict import laws_json, tasks_at
from trainer.scaling.accuracy.series import task_names
from trainer.scaling.accuracy.text import format_costs, format_laws, format_tasks
from trainer.scaling.fit.table import Table
from trainer.utils.errors import UserError

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
]


@dataclass(frozen=True)
class TaskFindings:
    """What a table says about tasks."""

    laws: TaskLaws
    costs: list[PointCost]

    def beside(self) -> Callable[[Mapping[str, float], Any], dict[str, Any]]:
        """Adds `tasks` to a prediction of parameters and tokens."""

        def add(point: Mapping[str, float], _: Any) -> dict[str, Any]:
            return {"tasks": tasks_at(self.laws, point["parameters"], point["tokens"])} if "tokens" in point else {}

        return add

    def format(self) -> str:
        blocks = [format_laws(self.laws), format_costs(self.costs, self.laws.table.currency)]
        return "\n\n".join("\n".join(lines) for lines in blocks if lines)

    def to_json(self) -> dict[str, Any]:
        """Keys of fit.json."""
        return {"tasks": laws_json(self.laws), "accuracy": [cost.to_json() for cost in self.costs]}

    def picture(self) -> tuple[str, bytes, bytes] | None:
        return accuracy_picture(self.laws, self.costs)


def find_tasks(
    table: Table, *, tasks: Sequence[str] = (), goals: Sequence[Goal] = (), replicates: int = 400, seed: int = 0
) -> TaskFindings | None:
    """None where a table has no tasks, or too few runs for a law of any, and none was asked for.

    Raises UserError for a task that is not there or cannot be fitted.
    """
    asked = [*tasks, *(goal.task for goal in goals if tasks)]
    if not (asked or goals) and not task_names(table):
        return None
    try:
        laws = fit_tasks(table, asked, replicates=replicates, seed=seed)
    except UserError:
        if asked or goals:
            raise
        return None
    return TaskFindings(laws, point_costs(laws, goals))
