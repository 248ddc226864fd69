"""What was asked of a model, as trackers show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FIGURES = ("bits_per_byte", "bits_per_byte_error", "accuracy", "accuracy_error")  # of a task, what is logged


def flat(scores: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name, `tasks/agreement/accuracy`; of tasks the figures alone."""
    found = dict(_numbers("", scores))
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("tasks/") or name.rpartition("/")[2] in FIGURES
    }


def _numbers(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(f"{prefix}{name}/", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value


def lines(scores: Mapping[str, Any]) -> list[str]:
    """For a person: a line for each task, and one for each other evaluation."""
    tasks = scores.get("tasks", {})
    width = max(map(len, tasks), default=0)
    found = [f"{name:<{width}}  {said_task(one)}" for name, one in tasks.items()]
    for name, numbers in scores.items():
        if name != "tasks":
            said = ", ".join(f"{key} {value:.6g}" for key, value in _numbers("", numbers))
            found.append(f"{name}: {said or 'nothing'}")
    return found


def said_task(one: Mapping[str, Any]) -> str:
    """`7.6389 bits per byte of the right answer, accuracy 0.550 +- 0.114 (chance 0.500)`, as far as it is known; what
    is no likelihood is said to be none."""
    parts, bits, accuracy, measure = [], one.get("bits_per_byte"), one.get("accuracy"), one.get("measure")
    if bits is not None:
        by = f" ({measure})" if measure in ("pseudo-log-likelihood", "span score") else ""
        parts.append(f"{bits:.4f} bits per byte of the right answer{by}")
    if accuracy is not None:
        error, chance = one.get("accuracy_error"), one.get("chance")
        plus = "" if error is None else f" +- {error:.3f}"
        parts.append(f"accuracy {accuracy:.3f}{plus}" + ("" if chance is None else f" (chance {chance:.3f})"))
    return ", ".join(parts) or "no right answer is known"
