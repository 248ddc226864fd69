"""What a run could do at points of its training: the scores of the tasks that it was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.evaluate.results import read_results, right_answers
from trainer.report.plots import is_number
from trainer.report.run_data import RunData


@dataclass(frozen=True)
class TaskPoint:
    """One task at one point. task: its name, and behind an @ the examples that were shown where it was asked with
    several numbers of them. bits_per_byte: of the right answer. accuracy, chance (of a guess): from 0 to 1. None: not
    known."""

    step: int
    tokens: float  # trained on by then
    task: str
    bits_per_byte: float | None
    accuracy: float | None
    chance: float | None = None


def task_points(run: RunData) -> list[TaskPoint]:
    """In order of step: what the loop measured (`evaluation.tasks`), of a branch its trunk's before; where it measured
    nothing, what `isoflop eval` says of the newest checkpoint that it was given."""
    return in_the_loop(run) or _of_a_checkpoint(run)


def in_the_loop(run: RunData) -> list[TaskPoint]:
    """As `task_points`, of what the loop measured alone."""
    found = []
    for record in sorted(run.evaluations, key=lambda one: int(one["step"])):
        scores = record.get("scores")
        tasks = scores.get("tasks") if isinstance(scores, Mapping) else None
        for label, one in (tasks if isinstance(tasks, Mapping) else {}).items():
            if isinstance(one, Mapping) and is_number(record.get("tokens")):
                found.append(_point(record["step"], float(record["tokens"]), str(label), one))
    return found


def _of_a_checkpoint(run: RunData) -> list[TaskPoint]:
    known = read_results(run.run)
    tasks = [one for one in known.get("tasks", []) if isinstance(one, Mapping) and isinstance(one.get("values"), dict)]
    step = known.get("step")
    if not tasks or not isinstance(step, int):
        return []
    trained = _number(next((one.get("tokens") for one in reversed(run.steps.kept) if one["step"] == step), None))
    tokens = float(run.config.curriculum.tokens(step)) if trained is None else trained
    asked = {label: {**right_answers(one), "chance": one.get("chance")} for label, one in labelled(tasks).items()}
    return [_point(step, tokens, label, scores) for label, scores in asked.items()]


def labelled(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """These results by the name of their task; `name@shots` where it was asked with several numbers of examples."""
    times = Counter(one["task"] for one in tasks)
    return {one["task"] if times[one["task"]] == 1 else f"{one['task']}@{one['shots']}": one for one in tasks}


def _point(step: int, tokens: float, label: str, scores: Mapping[str, Any]) -> TaskPoint:
    bits, accuracy, chance = (_number(scores.get(name)) for name in ("bits_per_byte", "accuracy", "chance"))
    return TaskPoint(step, tokens, label, bits, accuracy, chance)


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None
