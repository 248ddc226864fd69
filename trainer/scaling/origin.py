"""What decides whether the losses of two runs are one scale."""

from __future__ import annotations

import json
from typing import Any

from trainer.report import RunData

FIRST_WEIGHTS = "first weights"  # a difference in learning, not in the scale of the loss
Origin = tuple[tuple[str, str], ...]  # ("data", "..."), ("tokenizer", "..."), ("objective", "..."), ("numerics", "...")


def origin(run_data: RunData) -> Origin:
    """Tokens, tokenizer, objective, numerics and the weights of another run that it began from, in words that differ
    where they differ."""
    science = run_data.config.science()
    tokens = fingerprint(run_data)
    data = corpus(run_data) if tokens is None else f"{science['data']['name']} {tokens}"
    learned = ("tokenizer", _brief(science["tokenizer"])), ("objective", _brief(science["objective"]))
    first = [(FIRST_WEIGHTS, science["init"]["weights"][:12])] if "init" in science else []
    return ("data", data), *learned, ("numerics", run_data.numerics), *first


def fingerprint(run_data: RunData) -> str | None:
    """The first twelve digits of the prepared corpus's, tokenizer included; None where no attempt says it."""
    entries = run_data.environment if isinstance(run_data.environment, list) else []
    prints = [entry["data"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("data"), str)]
    return prints[-1][:12] if prints else None


def corpus(run_data: RunData) -> str:
    """The settings of the text, whatever tokenizer reads it."""
    data = run_data.config.science()["data"]
    return _brief({name: value for name, value in data.items() if name != "sequence_length"})


def _brief(section: dict[str, Any]) -> str:
    """What a section says beyond its defaults is long; its name and a short form of the rest tell sections apart."""
    rest = {name: value for name, value in section.items() if name != "name" and value not in (None, [], {}, "")}
    return f"{section['name']} {json.dumps(rest, sort_keys=True, separators=(',', ':'))}"
