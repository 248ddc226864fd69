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
    several numbers of them. bits_per_byte: of the right answer. accuracy: from 0 to 1. None: not known."""

    step: int
    tokens: float  # trained on by then
    task: str
    bits_per_byte: float | None
    accuracy: float | None


def task_points(run: RunData) -> list[TaskPoint]:
    """In order of step: what the loop measured (`evaluation.tasks`), of a branch its trunk's before; where it measured
    nothing, what `isoflop eval` says of the newest checkpoint that it was given."""
    return _in_the_loop(run) or _of_a_checkpoint(run)


def _in_the_loop(run: RunData) -> list[TaskPoint]:
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
    trained = next((one["tokens"] for one in reversed(run.steps.kept) if one["step"] == step), None)
    tokens = float(trained if is_number(trained) else run.config.curriculum.tokens(step))
    return [_point(step, tokens, label, right_answers(one["values"])) for label, one in labelled(tasks).items()]


def labelled(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """These results by the name of their task; `name@shots` where it was asked with several numbers of examples."""
    times = Counter(one["task"] for one in tasks)
    return {one["task"] if times[one["task"]] == 1 else f"{one['task']}@{one['shots']}": one for one in tasks}


def _point(step: int, tokens: float, label: str, scores: Mapping[str, Any]) -> TaskPoint:
    bits, accuracy = (scores.get(name) for name in ("bits_per_byte", "accuracy"))
    return TaskPoint(
        step,
        tokens,
        label,
        float(bits) if is_number(bits) and bits is not None else None,
        float(accuracy) if is_number(accuracy) and accuracy is not None else None,
    )
