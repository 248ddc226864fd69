"""One run of a root as the board knows it: what its small files say, and its curve once somebody looks at it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.board.curve import Curve, finite, newest, sketch
from trainer.board.head import ENDED, Logbook, figures, read_labels, read_plan, state_of
from trainer.run_folder import RunFolder

UNREADABLE = "not readable"
Stamp = tuple[int, int]  # bytes, and when a file was changed, in ns; zeros where there is none


class BoardRun:
    """A run of the index; of one whose folder is gone, what the ledger kept of it."""

    def __init__(self, number: int, name: str, path: Path | None) -> None:
        self.number = number
        self.name = name  # its folder below the root
        self.place(path)

    def place(self, path: Path | None) -> None:
        """It lies there, or no longer anywhere; nothing of it is read yet."""
        self.path = path
        self.version = 0  # of the board when it last changed; 0: not read yet
        self.labels: dict[str, str] = {}
        self.plan: dict[str, float] = {}
        self.state = "not read yet" if path else "gone"
        self.line: Mapping[str, Any] = {}  # of the ledger
        self.curve: Curve | None = None
        self.has_report = False
        self._last: dict[str, Any] = {}
        self._held: dict[str, Any] = {}
        self._sketch: Curve | None = None
        self._stamps: dict[str, Stamp] = {}
        self._logbook = Logbook(path) if path else None

    def refresh(self, line: Mapping[str, Any]) -> bool:
        """Read again what changed; whether anything did. line: the run's last one in the ledger."""
        if self.path is not None and not os.path.isdir(self.path):  # noqa: PTH112 (asked of every run, again and again)
            self.place(None)
        before, begun = self.state, self.version > 0
        try:
            return self._refresh(line)
        except OSError:  # of another user, on a server that is gone
            self.state = UNREADABLE
            return before != UNREADABLE or not begun

    def _refresh(self, line: Mapping[str, Any]) -> bool:
        before = (self.state, self.has_report, self.line)
        changed = self.version == 0
        self.line = line
        if self.path is None or self._logbook is None:
            self.state = str(line.get("status") or "gone")
            return changed or before[0] != self.state or before[2] != line
        if self._changed("config.yaml"):
            self.labels, changed = read_labels(self.path), True
        if self._changed("plan.json"):
            self.plan, changed = read_plan(self.path), True
        if self._changed("events.jsonl"):
            changed |= self._logbook.read()
        if self._changed("metrics.jsonl"):
            last, held = newest(self.path / "metrics.jsonl", self._stamps["metrics.jsonl"][0])
            self._last, self._held, changed = last or self._last, held or self._held, True
            self._sketch = None
        self.has_report = (self.path / "report.html").is_file()
        self.state = state_of(self.path, self._logbook, int(self.step or 0), self.plan.get("data.steps"))
        return changed or before != (self.state, self.has_report, self.line)

    def _changed(self, name: str) -> bool:
        assert self.path is not None
        try:
            state = os.stat(self.path / name)
            stamp = (state.st_size, state.st_mtime_ns)
        except OSError:
            stamp = (0, 0)
        old = self._stamps.get(name)
        self._stamps[name] = stamp
        return stamp != old and not (old is None and stamp == (0, 0))

    @property
    def folder(self) -> RunFolder | None:
        return RunFolder(self.path) if self.path else None

    @property
    def events(self) -> list[dict[str, Any]]:
        return self._logbook.events if self._logbook else []

    @property
    def step(self) -> float | None:
        return _or_null(self._last.get("step", self.line.get("steps")))

    @property
    def time(self) -> float | None:
        """When it said something last, in seconds since the epoch."""
        return _or_null(self.events[-1].get("time") if self.events else self.line.get("time"))

    @property
    def loss(self) -> float | None:
        return _or_null(self._last.get("loss"))

    @property
    def held_out(self) -> dict[str, Any]:
        """The newest evaluation."""
        return self._held

    @property
    def spent(self) -> dict[str, float]:
        """So far, by the keys of trainer.board.head.PRICES: of a run that ended what its price tag measured, else what
        its last record says. What is not stated is missing."""
        measured = figures(self.line.get("measured"))
        if measured and (self.path is None or self.state in ENDED):
            return measured
        price = self._last.get("price") if isinstance(self._last.get("price"), dict) else {}
        assert isinstance(price, dict)
        grams = finite(price.get("gco2e"))
        said = {
            "data.tokens": finite(self._last.get("tokens")),
            "data.steps": finite(self._last.get("step")),
            "flop.total": finite(self._last.get("flop")),
            "time.wall": finite(self._last.get("wall_seconds")) if not self._last.get("attempt") else float("nan"),
            "energy.kwh": finite(price.get("kwh")),
            "carbon.kgco2e": grams / 1000,
            "cost.amount": finite(price.get("money")),
        }
        return {name: value for name, value in said.items() if value == value}

    @property
    def currency(self) -> str:
        stated = self.line.get("currency") or self.labels.get("site.currency")
        return str(stated) if stated not in (None, "null") else ""

    def sketched(self) -> Curve | None:
        """A few records of its curve."""
        if self.path is None:
            return None
        size = self._stamps.get("metrics.jsonl", (0, 0))[0]
        if self._sketch is None and size:
            self._sketch = sketch(self.path / "metrics.jsonl", size)
        return self._sketch


def _or_null(value: object) -> float | None:
    number = finite(value)
    return number if number == number else None
