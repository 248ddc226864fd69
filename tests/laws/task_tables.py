"""Tables of tasks along runs, row by row."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from trainer.scaling.fit.table import Run, Table, TaskScore


def read_tasks(path: Path) -> Table:
    """Rows of one run are joined: its last row is its end."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    tasks = [title.removesuffix("_accuracy") for title in rows[0] if title.endswith("_accuracy")]
    by_run: dict[str, list[Run]] = {}
    for row in rows:
        scores = tuple(
            TaskScore(task, float(row[f"{task}_bits_per_byte"]), float(row[f"{task}_accuracy"])) for task in tasks
        )
        n, d = float(row["parameters"]), float(row["tokens"])
        by_run.setdefault(row["run"], []).append(Run(row["run"], n, d, 6 * n * d, float("nan"), tasks=scores))
    runs = [replace(rows[-1], earlier=tuple(rows[:-1])) for rows in by_run.values()]
    return Table(tuple(runs), "column 'parameters'", "6 x parameters x tokens")
