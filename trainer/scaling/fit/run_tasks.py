"""What a run folder says of tasks, as fields of Run."""

from __future__ import annotations

from typing import Any

from trainer.report import RunData
from trainer.report.task_points import TaskPoint, task_points
from trainer.scaling.fit.table import Run, TaskScore


def task_fields(run_data: RunData, name: str, parameters: float) -> dict[str, Any]:
    """tasks: the scores at the last step that has some, which must be the run's own last; earlier: those before."""
    by_step: dict[int, list[TaskPoint]] = {}
    for point in task_points(run_data):
        by_step.setdefault(point.step, []).append(point)
    if not by_step or not run_data.steps.kept:
        return {}
    last = int(run_data.steps.kept[-1]["step"])
    rows = {step: _row(name, parameters, points) for step, points in sorted(by_step.items())}
    end = rows.pop(last, None)
    return {"tasks": end.tasks if end else (), "earlier": tuple(rows.values())}


def _row(name: str, parameters: float, points: list[TaskPoint]) -> Run:
    """A run as far as it had come at one step."""
    scores = tuple(TaskScore(one.task, one.bits_per_byte, one.accuracy, one.chance) for one in points)
    return Run(name, parameters, points[0].tokens, float("nan"), float("nan"), tasks=scores)
