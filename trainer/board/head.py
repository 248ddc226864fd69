"""What the index says of a run, from the small files of its folder: its science, its plan, its logbook, its state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.board.curve import finite
from trainer.board.lines import GrowingFile
from trainer.books.records import read_json
from trainer.config import SCIENCE
from trainer.report.run_data import NOT_STARTED, RUNNING
from trainer.run_folder import RunFolder
from trainer.utils.outcomes import SAID, Status

BESIDE = (
    "numerics",
    "run",
    "site",
    "machine",
    "experiment",
)  # groups of a configuration that are read beside the science
LARGEST_CONFIG = 1 << 18
MOST_EVENTS = 20_000
PAUSED = "paused"
ENDED = (*SAID, Status.INTERRUPTED)
# Rows of a price tag that the page shows: key -> name, unit. Grams and kilograms as the price tag has them.
PRICES = {
    "data.tokens": ("tokens", "tokens"),
    "data.steps": ("steps", ""),
    "flop.total": ("model FLOPs", "FLOP"),
    "time.wall": ("time", "s"),
    "energy.kwh": ("energy", "kWh"),
    "carbon.kgco2e": ("carbon", "kgCO2e"),
    "cost.amount": ("money", ""),
}


def labels(text: str) -> dict[str, str]:
    """Dotted key -> value of a run's frozen config.yaml, as `Config.to_yaml` writes it: a key a line, two spaces a
    level. Thirty times as fast as a YAML reader, and of what is written otherwise the key is missing."""
    found: dict[str, str] = {}
    above: list[str] = []
    wanted = False
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip(" "))
        word = line[indent:]
        name, colon, value = word.partition(":")
        if indent == 0:
            wanted = name in SCIENCE or name in BESIDE
        if not wanted:
            continue
        if word.startswith("- "):
            key = ".".join(above)
            found[key] = f"{found[key]}, {_scalar(word[2:])}" if key in found else _scalar(word[2:])
            continue
        if not colon or indent % 2 or indent // 2 > len(above):
            continue
        above[indent // 2 :] = [name]
        if value.strip():
            found[".".join(above)] = _scalar(value)
    return found


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace("''", "'")
    return text


def read_labels(run: Path) -> dict[str, str]:
    """The labels of a run; none where its configuration is missing, damaged or too large to be one."""
    path = run / "config.yaml"
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_CONFIG:
            return {}
        return {key: shorter(value, 200) for key, value in labels(path.read_text(errors="replace")).items()}
    except OSError:
        return {}


def read_plan(run: Path) -> dict[str, float]:
    """The planned figures, by the keys of PRICES and `model.parameters`; those that are not stated are missing."""
    plan = read_json(run / "plan.json")
    return figures(plan.get("planned") if isinstance(plan, dict) else None)


def figures(groups: object) -> dict[str, float]:
    """The numbers of a price tag's plain form, group -> name -> value, by dotted key."""
    found = {}
    for key in (*PRICES, "model.parameters"):
        group, _, name = key.partition(".")
        part = groups.get(group) if isinstance(groups, dict) else None
        number = finite(part.get(name)) if isinstance(part, dict) else float("nan")
        if number == number:
            found[key] = number
    return found


class Logbook:
    """The events of a run, read as they come."""

    def __init__(self, run: Path) -> None:
        self._lines = GrowingFile(run / "events.jsonl")
        self.events: list[dict[str, Any]] = []

    def read(self) -> bool:
        """Whether there are new ones."""
        if self._lines.replaced():
            self.events = []
        before = len(self.events)
        new = self._lines.objects(MOST_EVENTS - before) if before < MOST_EVENTS else ()
        self.events += [event for event in new if isinstance(event.get("name"), str)]
        return len(self.events) > before

    @property
    def said(self) -> str | None:
        """How the newest attempt ended, as it says; None where it does not, or has not ended."""
        for event in reversed(self.events):
            name, data = event["name"], event.get("data")
            if name in SAID:
                return str(name)
            if name == "lost":
                return Status.FAILED
            if isinstance(data, dict) and isinstance(data.get("status"), str):
                return str(data["status"])
            if name in ("start", "resume"):
                break
        return None

    @property
    def paused(self) -> bool:
        """Whether the newest attempt waits: for its hours of the day, or for its data."""
        for event in reversed(self.events):
            if event["name"] in ("pause", "waits"):
                return True
            if event["name"] in ("go_on", "start", "resume", "checkpoint"):
                return False
        return False


def state_of(run: Path, logbook: Logbook, step: int, steps: float | None) -> str:
    """As `trainer.report.run_data.state_of` says it, of files that were read already; a run that waits is paused.

    step: the newest; steps: how many it is to have, where that is known.
    """
    said = logbook.said
    if said is not None:
        return said if said in ENDED or said == RUNNING else Status.INTERRUPTED
    if RunFolder(run).holder() is not None:
        return PAUSED if logbook.paused else RUNNING
    if not logbook.events:
        return NOT_STARTED
    return Status.FINISHED if steps and step >= steps else Status.INTERRUPTED


def text_samples(run: Path, most: int) -> list[dict[str, Any]]:
    """The newest texts that a run wrote as it learned: step, tokens_seen, prompt, text. None where it wrote none."""
    lines = GrowingFile(run / "samples.jsonl")
    lines.offset = max(0, lines.size() - (1 << 20))
    read = [one for one in lines.objects(100_000) if isinstance(one.get("text"), str)]
    whole_numbers = ("step", "tokens_seen")
    return [
        {name: whole(one.get(name)) for name in whole_numbers} | {"prompt": one.get("prompt"), "text": one["text"]}
        for one in read[-most:]
    ]


def last_lines(ledger: Path) -> dict[str, Mapping[str, Any]]:
    """The last line of every run in a root's ledger.jsonl, by <experiment>/<run id>; damaged lines are left out."""
    found: dict[str, Mapping[str, Any]] = {}
    for line in GrowingFile(ledger).objects(1_000_000):
        if isinstance(line.get("run"), str):
            found[str(line["run"])] = line
    return found


def whole(value: object) -> int | None:
    """The number of steps or tokens that a value of a file is; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**15:
        return None
    return value


def shorter(value: object, at_most: int = 400) -> str:
    """Text of a file for a page, cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= at_most else text[:at_most] + " ..."
