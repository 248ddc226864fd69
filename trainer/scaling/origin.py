"""What decides whether the losses of two runs are one scale."""

from __future__ import annotations

import json
from typing import Any

from trainer.report import RunData

# Differences in learning, not in the scale of the held-out loss.
FIRST_WEIGHTS, TASKS = "first weights", "labelled tasks"
Origin = tuple[tuple[str, str], ...]  # ("data", "..."), ("tokenizer", "..."), ("objective", "..."), ("numerics", "...")


def origin(run_data: RunData) -> Origin:
    """Tokens, tokenizer, objective, numerics, the weights of another run that it began from, and labelled tasks beside
    the text that the held-out loss is of, in words that differ where they differ."""
    science, beside = run_data.config.science(), _tasks_beside(run_data)
    tokens = fingerprint(run_data, "text" if beside else "data")
    data = corpus(run_data) if tokens is None else f"{science['data']['name']} {tokens}"
    learned = ("tokenizer", _brief(science["tokenizer"])), ("objective", _brief(science["objective"]))
    first = [(FIRST_WEIGHTS, science["init"]["weights"][:12])] if "init" in science else []
    tasks = [(TASKS, f"{', '.join(beside)} {fingerprint(run_data)}")] if beside else []
    return ("data", data), *learned, ("numerics", run_data.numerics), *first, *tasks


def _tasks_beside(run_data: RunData) -> list[str]:
    """The labelled tasks of a run whose held-out loss is that of its text alone."""
    data = run_data.config.data
    return [] if data.mixing.text_share == 0 else sorted(data.tasks)


def fingerprint(run_data: RunData, what: str = "data") -> str | None:
    """The first twelve digits of what was read, tokenizer included; None where no attempt says it. what: `data`, or
    `text`, without the labelled tasks beside it."""
    entries = run_data.environment if isinstance(run_data.environment, list) else []
    prints = [entry[what] for entry in entries if isinstance(entry, dict) and isinstance(entry.get(what), str)]
    return prints[-1][:12] if prints else None


def corpus(run_data: RunData) -> str:
    """The settings of the text, whatever tokenizer reads it."""
    data = run_data.config.science()["data"]
    left = ("sequence_length", *(("tasks", "mixing") if _tasks_beside(run_data) else ()))
    return _brief({name: value for name, value in data.items() if name not in left})


def _brief(section: dict[str, Any]) -> str:
    """What a section says beyond its defaults is long; its name and a short form of the rest tell sections apart."""
    rest = {name: value for name, value in section.items() if name != "name" and value not in (None, [], {}, "")}
    return f"{section['name']} {json.dumps(rest, sort_keys=True, separators=(',', ':'))}"
