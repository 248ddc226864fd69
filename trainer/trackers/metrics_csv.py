"""metrics.csv and evaluations.csv: the records that stand, a row each, for spreadsheets and data frames.

Columns are the fields of metrics.jsonl, nested ones with dots (`seconds.data`). What is not known is an empty cell. A
field that comes later than the first record is a column more, behind the others: the table is written anew with it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.trackers.jsonl import read_metrics
from trainer.trackers.records import EvaluationRecord, Event, StepRecord
from trainer.trackers.tracker import RunContext
from trainer.utils.files import write_atomic

STEPS, EVALUATIONS = "metrics.csv", "evaluations.csv"


class Table:
    """A CSV file of rows with rising steps. Raises OSError where the disk refuses; then nothing of a row is left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] | None = None  # None: what is there is not read yet
        self._newest = -1

    @property
    def newest(self) -> int:
        """Step of its last row; -1 where it has none. Mends a torn one."""
        if self._columns is None:
            self.cut(sys.maxsize)
        return self._newest

    def append(self, record: Mapping[str, Any]) -> None:
        """As the last row; rows of its step and of later ones are superseded, and go."""
        row = dict(flat(record))
        self.cut(row["step"])
        assert self._columns is not None
        if new := [name for name in row if name not in self._columns]:
            self._rewrite([*self._columns, *new], self._rows())
        self._add(_line([row.get(name) for name in self._columns]))
        self._newest = row["step"]

    def cut(self, step: int) -> None:
        """Drop the rows from this step on, and the last one where it is torn."""
        if self._columns is not None and step > self._newest:
            return
        rows, torn = self._rows(), self._columns is None and self._torn()
        kept = [row for row in rows if int(row["step"]) < step]
        if torn or len(kept) < len(rows):
            self._rewrite(self._columns or [], kept)
        self._newest = int(kept[-1]["step"]) if kept else -1

    def _rows(self) -> list[dict[str, str]]:
        """All that are whole; reads the columns too."""
        self._columns = []
        if not self.path.is_file():
            return []
        text = self.path.read_bytes().decode(errors="replace")
        whole = text[: text.rfind("\n") + 1]  # a killed process leaves at most a torn last line
        reader = csv.DictReader(io.StringIO(whole, newline=""))
        self._columns = list(reader.fieldnames or [])
        return [row for row in reader if (row.get("step") or "").isdigit()]

    def _torn(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size > 0 and self.path.read_bytes()[-1:] != b"\n"

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        lines = [_line(columns), *(_line([row.get(name) for name in columns]) for row in rows)]
        write_atomic(self.path, "".join(lines) if columns else "")
        self._columns = columns

    def _add(self, line: str) -> None:
        data = line.encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            before = os.fstat(file).st_size
            if os.write(file, data) < len(data):
                os.ftruncate(file, before)
                raise OSError(28, os.strerror(28), str(self.path))
        finally:
            os.close(file)


class CsvTables:
    name = "metrics.csv"

    def __init__(self, run: Path) -> None:
        self._steps, self._evaluations = Table(run / STEPS), Table(run / EVALUATIONS)
        self._newest = -1  # step of the last record of this attempt

    def start(self, context: RunContext) -> None:
        """Also the records of earlier attempts that are not there, as where nobody asked for tables then."""
        last = context.resumed_from
        if not last or self._steps.newest >= last:
            return
        for record in read_metrics(context.run):
            table = self._evaluations if record.get("kind") == "evaluation" else self._steps
            del record["replays"]
            if isinstance(record.get("step"), int) and table.newest < record["step"] <= last:
                table.append(record)

    def step(self, record: StepRecord) -> None:
        if record.step <= self._newest or self._newest < 0:  # a resume or a roll-back: what was measured of it goes too
            self._evaluations.cut(record.step)
        self._newest = record.step
        self._steps.append(record.to_json())

    def evaluation(self, record: EvaluationRecord) -> None:
        self._evaluations.append(record.to_json())

    def event(self, event: Event) -> None:
        """The logbook is no table."""

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        pass


def make(config: Config, run: Path, resumed_from: int) -> CsvTables:
    return CsvTables(run)


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted field -> value; a list as JSON, what is not known and what is no finite number as None."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            found[prefix + name] = json.dumps(value)
        else:
            found[prefix + name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return found


def _line(cells: list[Any]) -> str:
    """One row; floats as Python's shortest text that reads back as the same number."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()
