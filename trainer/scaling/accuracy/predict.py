"""What a model of a stated size and number of tokens reaches in each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer.scaling.accuracy.laws import TaskLaw, TaskLaws
from trainer.scaling.fit.resampling import interval
from trainer.scaling.fit.table import Table

WITHIN = 1.001  # x the largest or the smallest run


def tasks_at(laws: TaskLaws, parameters: float, tokens: float) -> dict[str, dict[str, Any]]:
    """Task -> bits_per_byte and accuracy, each value, low and high: 95% of runs like it end in between.

    accuracy is null where the runs say nothing of it.
    """
    place = (np.array([parameters]), np.array([tokens]))
    return {
        task: {
            "bits_per_byte": law.bits(place)[0].to_json(),
            "accuracy": law.accuracy(place)[0].to_json() if law.second else None,
        }
        for task, law in laws.laws.items()
    }


def extrapolation(table: Table, place: Mapping[str, float]) -> tuple[float, str]:
    """How far beyond the runs a place lies on its farthest axis, and which that is; 1 and nothing among them."""
    factors = {}
    for axis in ("parameters", "tokens"):
        column = table.column(axis)
        factors[axis] = max(place[axis] / np.nanmax(column), np.nanmin(column) / place[axis])
    axis = max(factors, key=lambda name: factors[name])
    return (float(factors[axis]), axis) if factors[axis] > WITHIN else (1.0, "")


def laws_json(laws: TaskLaws) -> dict[str, Any]:
    """Both steps of each task, and their errors on held-out runs."""
    found: dict[str, Any] = {}
    for task, law in laws.laws.items():
        score = laws.held_out.get(task)
        floor = interval(law.first.floor(), law.draws[:, 0])
        found[task] = {
            "bits_per_byte": {"E": floor.to_json()},
            "accuracy": _second_json(law) if law.second else {"refused": law.why},
            "runs": len(law.series.runs),
            "held_out": score and {"bits_per_byte": score.bits, "accuracy": score.accuracy},
            "stretch": {"bits_per_byte": law.stretch_bits, "accuracy": law.stretch_accuracy},
        }
    return found | {task: {"refused": why} for task, why in laws.refused.items()}


def _second_json(law: TaskLaw) -> dict[str, Any]:
    assert law.second is not None
    columns = law.second.theta.copy()
    columns[:, 1] = np.exp(columns[:, 1])
    names = ("floor", "k", "middle")
    return {name: interval(one[0], one[1:]).to_json() for name, one in zip(names, columns.T, strict=True)}
