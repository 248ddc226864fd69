"""metrics.jsonl, events.jsonl and samples.jsonl: one record a line, appended with a single write, read back as a fold.

A killed process leaves at most a torn last line. The next writer starts on a fresh line, and readers skip what is not
a whole JSON object. A number that is not finite is written as null, so that every line is JSON for every reader.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

from trainer.books.records import read_lines
from trainer.config import Config
from trainer.trackers.records import EvaluationRecord, Event, StepRecord, TextSample
from trainer.trackers.tracker import RunContext
from trainer.utils.files import write_atomic

METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
SAMPLES = "samples.jsonl"


class JsonLines:
    """Appends JSON objects to a file, one `write` each. Raises OSError when the disk refuses; the next one retries."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._torn = False  # the file ends in the middle of a line

    def append(self, record: dict[str, Any]) -> None:
        line = json.dumps(_plain(record), allow_nan=False, separators=(",", ":"), ensure_ascii=False) + "\n"
        if self._file is None:
            self._file = self._open()
        data = (b"\n" if self._torn else b"") + line.encode()
        written = os.write(self._file, data)
        self._torn = data[:written][-1:] != b"\n"
        if written < len(data):  # a disk that fills up takes part of a line and refuses only the next write
            raise OSError(28, os.strerror(28), str(self.path))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        size = os.fstat(file).st_size
        self._torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        return file


def append_event(run: Path, event: Event) -> None:
    """A line of the logbook from a rank that has no trackers. What the disk refuses is lost."""
    events = JsonLines(run / EVENTS)
    with contextlib.suppress(OSError):
        events.append(event.to_json())
        events.close()


class JsonlTracker:
    """Every record of the run into its folder."""

    name = "metrics.jsonl"

    def __init__(self, run: Path) -> None:
        self._metrics = JsonLines(run / METRICS)
        self._events = JsonLines(run / EVENTS)
        self._samples = JsonLines(run / SAMPLES)

    def start(self, context: RunContext) -> None:
        pass

    def step(self, record: StepRecord) -> None:
        self._metrics.append(record.to_json())

    def evaluation(self, record: EvaluationRecord) -> None:
        self._metrics.append(record.to_json())

    def event(self, event: Event) -> None:
        self._events.append(event.to_json())

    def samples(self, samples: list[TextSample]) -> None:
        """What an earlier attempt, or the run before a roll-back, wrote from this step on is superseded, and goes."""
        step, before = samples[0].step, read_lines(self._samples.path)
        if gone := [one for one in before if isinstance(at := one.get("step"), int) and at >= step]:
            self._samples.close()
            stand = [json.dumps(one, ensure_ascii=False) for one in before if one not in gone]
            write_atomic(self._samples.path, "".join(f"{line}\n" for line in stand))
        for one in samples:
            self._samples.append(one.to_json())

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        for one in (self._metrics, self._events, self._samples):
            one.close()


def make(config: Config, run: Path, resumed_from: int) -> JsonlTracker:
    return JsonlTracker(run)


def read_metrics(run: Path, *, superseded: bool = False) -> list[dict[str, Any]]:
    """The step and evaluation records of a run, in the order they were made; none if nothing was written yet.

    A resume goes back to a checkpoint: its first step supersedes every earlier record from that step on, whether or not
    the new attempt has come as far. Each record carries `replays`, how many earlier records of its kind and step it
    supersedes. With `superseded=True` those stay in the list too, marked `superseded: true`: they cost time and energy.
    """
    records = [one for one in read_lines(run / METRICS) if isinstance(one.get("step", 0), int)]
    last_step = -1
    current: list[int] = []  # indices of the records that stand
    seen: dict[tuple[str, int], int] = {}
    for index, record in enumerate(records):
        kind, step = record.get("kind", "step"), record.get("step", 0)
        if kind == "step":
            if step <= last_step:
                current = [i for i in current if records[i].get("step", 0) < step]
            last_step = step
        elif (kind, step) in seen:
            current = [i for i in current if (records[i].get("kind"), records[i].get("step")) != (kind, step)]
        current.append(index)
        record["replays"] = seen.get((kind, step), 0)
        seen[kind, step] = record["replays"] + 1
    if not superseded:
        return [records[i] for i in current]
    stands = set(current)
    return [{**record, "superseded": i not in stands} for i, record in enumerate(records)]


def read_samples(run: Path) -> list[dict[str, Any]]:
    """What the model wrote along a run: step, tokens_seen, prompt, text; empty where nobody asked."""
    return read_lines(run / SAMPLES)


def read_events(run: Path) -> list[dict[str, Any]]:
    """The logbook of a run, in the order things happened; empty if there is none."""
    return read_lines(run / EVENTS)


def _plain(value: Any) -> Any:
    """JSON's own types: numpy and torch scalars as numbers, paths as text, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return _plain(value.item()) if hasattr(value, "item") else str(value)
