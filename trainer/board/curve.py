"""One run's metrics.jsonl as columns that grow: the steps that count, and the evaluations."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.board.lines import GrowingFile, object_of, sampled_lines
from trainer.utils.bounded import no_file

AXES = ("step", "tokens", "flop", "seconds", "kwh")
OF_STEPS = ("loss", "grad_norm", "lr", "tokens_per_second")
OF_EVALUATIONS = ("loss", "bits_per_byte")
WIDE = ("step", "tokens")  # columns whose numbers float32 would round
SKETCH = 48  # lines of a first look
# A step's line as the tracker writes it, read six times as fast as JSON; what is written otherwise is read as JSON.
_STEP_LINE = re.compile(
    rb'\{"kind":"step","step":(\d{1,15}),"samples":\d+,"tokens":([^,]+),"targets":\d+,"flop":([^,]+),"loss":([^,]+),'
    rb'"grad_norm":([^,]+),"lr":([^,]+),"tokens_per_second":([^,]+),[^{]*"seconds":\{[^}]*\},"wall_seconds":([^,]+),'
    rb'"attempt":(\d{1,9}),.*"price":\{"kwh":([^,]+),.*\}\Z'
)
Point = tuple[float, ...]  # AXES, then OF_STEPS; NaN: not stated
Column = NDArray[Any]


class Curve:
    """What was read of a run's records so far.

    `step(name)` is a column of the steps that count, one value a step, NaN where a record does not say it; of a step
    that was trained again the later record counts, and the steps behind it are forgotten, as everywhere here. `seconds`
    are those of all attempts so far, and `kwh` is all energy so far: what was paid until then, thrown-away steps
    included.
    """

    def __init__(self, path: Path) -> None:
        self._lines = GrowingFile(path)
        self._clear()

    def _clear(self) -> None:
        self._columns: dict[str, Column] = {name: np.empty(0, _kind(name)) for name in (*AXES, *OF_STEPS)}
        self._length = 0
        self.evaluations: list[dict[str, float]] = []
        self._before: dict[int, float] = {}  # attempt -> seconds of the attempts before it
        self._wall = (0, 0.0)  # the newest attempt, and its seconds

    def __len__(self) -> int:
        return self._length

    @property
    def memory(self) -> int:
        """Bytes of its columns."""
        return sum(column.nbytes for column in self._columns.values())

    @property
    def unread(self) -> int:
        """Bytes that the file has beyond what was read."""
        return max(0, self._lines.size() - self._lines.offset)

    def step(self, name: str) -> Column:
        return self._columns[name][: self._length]

    def read(self, until: float) -> bool:
        """Read on until the file's end, or until time.monotonic() is `until`; whether the end was reached."""
        if self._lines.replaced():
            self._clear()
        for chunk in self._lines.chunks():
            self._add(chunk)
            if time.monotonic() > until:
                return False
        return True

    def _add(self, chunk: bytes) -> None:
        points: list[Point] = []
        last = self.step("step")[-1] if self._length else 0
        for line in chunk.splitlines():
            record = _fields(line)
            if isinstance(record, dict):
                self._evaluation(record, points)
                continue
            if record is None:
                continue
            point = self._timed(*record)
            if point[0] <= last:  # a resume or a roll-back
                self._extend(points)
                points = []
                self._cut(int(point[0]))
            points.append(point)
            last = point[0]
        self._extend(points)

    def _timed(self, point: Point, wall: float, attempt: int) -> Point:
        """The point with its seconds over all attempts; NaN where its own are not stated."""
        newest, seconds = self._wall
        if attempt > newest:
            self._before[attempt] = self._before.get(newest, 0.0) + seconds
            seconds = 0.0
        self._wall = (attempt, wall if math.isfinite(wall) else seconds)
        return (*point[:3], self._before.get(attempt, 0.0) + wall, *point[4:])

    def _evaluation(self, record: dict[str, Any], points: list[Point]) -> None:
        self._extend(points)
        points.clear()
        axes = dict.fromkeys(AXES, math.nan)
        if self._length:
            axes = {name: float(self.step(name)[-1]) for name in AXES}
        axes |= {name: finite(record.get(name)) for name in ("step", "tokens")}
        while self.evaluations and self.evaluations[-1]["step"] >= axes["step"]:
            self.evaluations.pop()
        self.evaluations.append(axes | {f"held_{name}": finite(record.get(name)) for name in OF_EVALUATIONS})

    def _cut(self, step: int) -> None:
        self._length = int(np.searchsorted(self.step("step"), step))
        while self.evaluations and self.evaluations[-1]["step"] >= step:
            self.evaluations.pop()

    def _extend(self, points: list[Point]) -> None:
        if not points:
            return
        table = np.array(points, float)
        end = self._length + len(table)
        for number, name in enumerate((*AXES, *OF_STEPS)):
            column = self._columns[name]
            if end > len(column):
                longer: Column = np.empty(max(end, len(column) * 3 // 2), _kind(name))
                longer[: self._length] = column[: self._length]
                self._columns[name] = column = longer
            with np.errstate(over="ignore"):  # beyond float32
                column[self._length : end] = table[:, number]
            new = column[self._length : end]
            new[np.isinf(new)] = math.nan  # one of them would spoil every mean behind it
        self._length = end


def sketch(path: Path, size: int, lines: int = SKETCH) -> Curve:
    """A curve of a few records, evenly spaced over the file: its shape at once, however long it is."""
    drawn = Curve(path)
    read = sorted(set(sampled_lines(path, size, lines)), key=_place)
    drawn._add(b"\n".join(read))
    return drawn


def _place(line: bytes) -> float:
    record = _fields(line)
    return 0.0 if record is None else record["step"] if isinstance(record, dict) else record[0][0]


def newest(path: Path, size: int) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The newest whole record of a step and of an evaluation near a file's end; None where there is none."""
    found: dict[str, dict[str, Any]] = {}
    if no_file(path):
        return None, None
    try:
        with open(path, "rb") as file:
            file.seek(max(0, size - (1 << 16)))
            lines = file.read().split(b"\n")
    except OSError:
        return None, None
    for line in reversed(lines):
        kind = next((one for one in ("evaluation", "step") if b'"%s"' % one.encode() in line[:40]), "")
        if kind and kind not in found and (record := object_of(line)) is not None and record.get("kind") == kind:
            found[kind] = record
        if len(found) == 2:
            break
    return found.get("step"), found.get("evaluation")


def _kind(name: str) -> type:
    return np.float64 if name in WIDE else np.float32


def _fields(line: bytes) -> tuple[Point, float, int] | dict[str, Any] | None:
    """A step's point, its attempt's seconds and its attempt; or an evaluation's record; None of any other line."""
    found = _STEP_LINE.match(line)
    if found:
        try:
            step, tokens, flop, loss, norm, lr, speed, wall, attempt, kwh = map(float, found.groups())
        except ValueError:  # a null among them
            pass
        else:
            return (step, tokens, flop, math.nan, kwh, loss, norm, lr, speed), wall, int(attempt)
    record = object_of(line)
    at = None if record is None else record.get("step")
    if record is None or isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < 10**15:
        return None
    if record.get("kind") == "evaluation":
        return record
    return _slowly(record) if record.get("kind") == "step" else None


def _slowly(record: Mapping[str, Any]) -> tuple[Point, float, int]:
    price = record.get("price")
    named = {**record, "kwh": price.get("kwh") if isinstance(price, dict) else None, "seconds": None}
    point = tuple(finite(named.get(name)) for name in (*AXES, *OF_STEPS))
    attempt = record.get("attempt")
    return point, finite(record.get("wall_seconds")), attempt if isinstance(attempt, int) else 0


def finite(value: object) -> float:
    """The number that a value is; NaN where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan
