"""Columns of a table that hold what runs reached in tasks: `<task>_bits_per_byte` and `<task>_accuracy`."""

from __future__ import annotations

import re
from typing import NamedTuple

from trainer.scaling.fit.table import TaskScore

_TITLE = re.compile(r"(.+?)[\s_/.-]+(bits[_ ]per[_ ]byte|bpb|accuracy|acc|acc_norm)\s*(\(%\)|\[%\])?", re.IGNORECASE)
_NO_TASKS = ("train", "training", "val", "validation", "eval", "test", "held_out", "top1", "mean", "average")


class TaskColumn(NamedTuple):
    """Where a task's score stands."""

    title: str
    task: str
    field: str  # of TaskScore
    factor: float


def task_columns(titles: list[str]) -> list[TaskColumn]:
    """The columns of tasks among the titles of a table."""
    found = []
    for title in titles:
        match = _TITLE.fullmatch(title.strip())
        if match and match[1].lower() not in _NO_TASKS:
            field = "bits_per_byte" if match[2].lower().startswith("b") else "accuracy"
            found.append(TaskColumn(title, match[1], field, 0.01 if match[3] else 1.0))
    return found


def scores(cells: dict[str, str], columns: list[TaskColumn]) -> tuple[tuple[TaskScore, ...], list[str]]:
    """The scores of one row, and what is wrong with its cells. An empty cell is a score that is not stated."""
    by_task: dict[str, dict[str, float]] = {}
    wrong = []
    for title, task, field, factor in columns:
        cell = cells[title].strip()
        if cell.lower() in ("", "-", "nan", "na", "n/a", "null", "none"):
            continue
        try:
            value = float(cell) * factor
        except ValueError:
            wrong.append(f"{title}: {cell!r} given, a number wanted")
            continue
        if field == "accuracy" and not 0 <= value <= 1:
            wrong.append(f"{title}: {cell} given, 0 to 1 wanted; for per cent name the column {task}_accuracy (%)")
        elif field == "bits_per_byte" and not 0 < value < float("inf"):
            wrong.append(f"{title}: {cell} given, a positive number wanted")
        else:
            by_task.setdefault(task, {})[field] = value
    return tuple(TaskScore(task, **fields) for task, fields in by_task.items()), wrong
