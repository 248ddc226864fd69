"""The scores of a published grid, looked up in the runs that they are of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from trainer.books.records import read_json, read_steps
from trainer.publish.sources import GRID
from trainer.run_folder import find_runs

TASK = "task.json"


def grids_again(raw: Path) -> tuple[list[str], list[str]]:
    """A line about each score of a grid that no run reached; a note for each grid whose scores all stand in runs."""
    wrong, notes = [], []
    for path in sorted(raw.glob(f"*/{GRID}")):
        name = str(path.relative_to(raw))
        facts = read_json(path)
        rows = facts.get("rows") if isinstance(facts, dict) else None
        tasks = (facts.get("grid") or {}).get("tasks") if isinstance(facts, dict) else None
        if not isinstance(rows, list) or not isinstance(tasks, dict):
            wrong.append(f"{name}: no table of a grid")
            continue
        reached = _reached(raw)
        lost = list(_without_run(rows, tasks, reached))
        count = sum(len(score["values"]) for row in rows for score in row["scores"].values() if score)
        wrong += [f"{name}: {line}" for line in lost]
        notes += [] if lost else [f"{name}: each of its {count} scores stands in a run"]
    return wrong, notes


def _reached(raw: Path) -> dict[str, set[float]]:
    """Name of a score -> all values that runs reached."""
    found: dict[str, set[float]] = {}
    for run in find_runs(raw):
        facts = read_json(run / TASK)
        metrics = facts.get("metrics") if isinstance(facts, dict) else None
        for name, value in (metrics if isinstance(metrics, dict) else {}).items():
            if isinstance(value, int | float):
                found.setdefault(name, set()).add(float(value))
        evaluations = read_steps(run).evaluations
        if evaluations and isinstance(evaluations[-1].get("loss"), int | float):
            found.setdefault("perplexity", set()).add(math.exp(evaluations[-1]["loss"]))
    return found


def _without_run(rows: list[dict[str, Any]], tasks: dict[str, Any], reached: dict[str, set[float]]) -> list[str]:
    return [
        f"{row['objective']}, {task}: {value!r} is the {tasks[task]['score']} of no run"
        for row in rows
        for task, score in row["scores"].items()
        for value in (score["values"] if score else [])
        if value not in reached.get(tasks[task]["score"], set())
    ]
