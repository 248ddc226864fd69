"""Reading a run folder's JSON lines as a fold: torn lines are skipped, replayed steps are told apart."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from trainer.utils.bounded import no_file, parse_json
from trainer.utils.errors import UserError

PADDING_IS_MUCH = 0.01  # share of all tokens from which on it is said beside them
LONGEST_FILE = 1 << 34
TOGETHER = 16  # lines that are parsed at once
SCORES = ("loss", "bits_per_byte")  # of a run that diverged they are no finite numbers
FIGURES = ("tokens", "flop", "attempt", "wall_seconds", "tokens_per_second", "mfu", "memory_peak_bytes")
# What a step's time consists of, where a policy writes its answers too. Beside it: start, evaluation, checkpoint.
STEP_PHASES = ("data", "generation", "reward", "reference", "forward_backward", "optimizer", "idle", "other")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole JSON object of a .jsonl file, in order; a missing file has none.

    A killed process leaves at most a torn line, which is not an object and is left out. Raises UserError where
    something else than a file is there, and where none of several lines is an object.
    """
    if not path.exists() and not path.is_symlink():
        return []
    if wrong := no_file(path):
        raise UserError(f"{path}: {wrong}")
    objects: list[dict[str, Any]] = []
    number = 0
    try:
        if path.stat().st_size > LONGEST_FILE:
            raise UserError(f"{path}: larger than {LONGEST_FILE / 2**30:g} GiB, the most that is read of such a file")
        with open(path, "rb") as file:
            while some := list(islice(file, TOGETHER)):
                number += sum(line.endswith(b"\n") for line in some)
                objects += _objects([line.removesuffix(b"\n") for line in some])
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    if not objects and number > 1:
        raise UserError(f"{path}: none of its {number} lines is a JSON object")
    return objects


def _objects(lines: list[bytes]) -> list[dict[str, Any]]:
    """The JSON objects among some lines. Where every line is one they are parsed together, so that they share the
    words of their keys: half the memory."""
    items: list[Any] = []
    if all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
        with contextlib.suppress(ValueError):
            items = parse_json(b"[" + b",".join(lines) + b"]")
    if len(items) != len(lines):
        items = []
        for line in lines:
            with contextlib.suppress(ValueError):
                items.append(parse_json(line))
    return [item for item in items if isinstance(item, dict)]


def read_json(path: Path) -> Any:
    """A JSON file's content; None where it is missing or damaged."""
    try:
        return None if no_file(path) else parse_json(path.read_text())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Steps:
    """The steps of a run as they count: of a step that was trained twice, the later one."""

    kept: tuple[dict[str, Any], ...]
    replayed: tuple[dict[str, Any], ...]  # earlier versions: work that was paid for and thrown away
    evaluations: tuple[dict[str, Any], ...]
    closings: tuple[dict[str, Any], ...] = ()  # of attempts that could say their last: time since the last step

    @property
    def attempts(self) -> int:
        return 1 + max(
            (record.get("attempt", 0) for record in self.kept + self.replayed),
            default=0,
        )

    @property
    def attempt_seconds(self) -> dict[int, float]:
        """Seconds from the start of each attempt to the last that it said."""
        last: dict[int, float] = {}
        for record in self._timed:
            attempt = record.get("attempt", 0)
            last[attempt] = max(last.get(attempt, 0.0), float(record.get("wall_seconds") or 0.0))
        return last

    @property
    def phase_seconds(self) -> dict[str, float]:
        """Seconds by phase over all attempts, steps that were trained again included; time of an attempt that lies in
        no record's phase is `idle`, so that all of it adds up."""
        totals: dict[str, float] = defaultdict(float)
        for record in self._timed:
            for name, value in (record.get("seconds") or {}).items():
                totals[name] += value if isinstance(value, int | float) else 0.0
        totals["idle"] += max(0.0, sum(self.attempt_seconds.values()) - sum(totals.values()))
        return dict(totals)

    @property
    def padding(self) -> float:
        """Share of the tokens of the kept steps that were padding; 0 where the records do not say."""
        padding = before = 0.0
        for record in self.kept:
            tokens = float(record.get("tokens") or before)
            padding += (record.get("padding") or 0.0) * (tokens - before)
            before = tokens
        return padding / before if before else 0.0

    @property
    def _timed(self) -> tuple[dict[str, Any], ...]:
        return self.kept + self.replayed + self.closings


NO_STEPS = Steps((), (), ())


def read_steps(run: Path) -> Steps:
    """Fold `metrics.jsonl`, and the ends of attempts in `events.jsonl`.

    A run that goes back to step s, by a resume or a roll-back, throws away what came at or after s. Raises UserError
    as `read_lines`, and where a figure is no number.
    """
    kept: dict[int, dict[str, Any]] = {}
    evaluations: dict[int, dict[str, Any]] = {}
    replayed: list[dict[str, Any]] = []
    last = 0
    for record in read_lines(run / "metrics.jsonl"):
        step = record.get("step")
        if not isinstance(step, int):
            continue
        if wrong := _no_number(record):
            raise UserError(f"{run / 'metrics.jsonl'}: step {step}: {wrong}")
        if record.get("kind") == "evaluation":
            evaluations[step] = record
        elif record.get("kind") == "step":
            if step <= last:
                replayed += [kept.pop(later) for later in sorted(kept) if later >= step]
                evaluations = {at: item for at, item in evaluations.items() if at < step}
            kept[step], last = record, step
    return Steps(
        tuple(kept[step] for step in sorted(kept)),
        tuple(replayed),
        tuple(evaluations[step] for step in sorted(evaluations)),
        tuple(_closings(run)),
    )


def _no_number(record: dict[str, Any]) -> str | None:
    """A word about a figure of a record that is no number, or null."""
    phases = record.get("kind") == "step"  # of an evaluation there is one number
    seconds = (record.get("seconds") or {}) if phases else {"seconds": record.get("seconds")}
    if not isinstance(seconds, dict):
        return f"seconds: {seconds!r} given, seconds by phase wanted"
    figures = {name: record.get(name) for name in FIGURES} | seconds
    for name, value in figures.items():
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            return f"{name}: {value!r} given, a number wanted"
    wrong = (name for name in SCORES if not isinstance(record.get(name), int | float | None))
    return next((f"{name}: {record[name]!r} given, a number wanted" for name in wrong), None)


def _closings(run: Path) -> Iterator[dict[str, Any]]:
    """The last line of an attempt's logbook: seconds by phase since its last step, and wall_seconds."""
    for event in read_lines(run / "events.jsonl"):
        data = event.get("data")
        if isinstance(data, dict) and isinstance(data.get("seconds"), dict):
            yield data | {"attempt": event.get("attempt", 0)}


def read_ranks(run: Path) -> dict[int, int]:
    """How many ranks each attempt had, as `environment.json` tells; a resume may have changed them."""
    entries = read_json(run / "environment.json")
    return {
        entry["attempt"]: entry["world_size"]
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("attempt"), int) and (entry.get("world_size") or 0) > 0
    }
