"""All runs of a root, read as they are asked for: the index, the points of curves, and what one run is about."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.board.board_run import BoardRun
from trainer.board.curve import AXES, OF_EVALUATIONS, OF_STEPS, Curve
from trainer.board.head import PRICES, last_lines, shorter, text_samples, whole
from trainer.board.view import plain, running_mean, stated, thinned, visible
from trainer.run_folder import find_runs
from trainer.utils.errors import UserError

MOST_POINTS, LEAST_POINTS, VIEW_POINTS = 2000, 24, 60_000  # of a curve, of one of many, of a whole view
MOST_BYTES = 1 << 29  # of columns that are kept in memory
READING = 0.25  # seconds that a request reads before it answers with what there is
LISTED_EVERY = 5.0  # seconds between two looks for new folders
ALWAYS = ("model.name", "objective.name", "data.name", "optim.name", "optim.lr", "optim.batch_size", "seed")
MOST_KEYS, MOST_VALUES = 24, 12  # filters offered, and values of one
NO_FILTER = ("run.id", "run.root", "run.cache", "experiment", "budget.flops")
MOST_EVENTS = 500  # of a run, the newest
PALE = 6  # runs, at most, whose steps are shown behind their means


@dataclass(frozen=True)
class Asked:
    """Of which curves, in which view."""

    numbers: Sequence[int]
    x: str = "tokens"
    y: str = "loss"
    low: float | None = None
    high: float | None = None
    mean: int = 1  # steps
    of: int = 0  # curves in the view, where some of them are asked for


class Board:
    """What a page can ask of a root. Safe to be used by several threads; every answer takes a bounded time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs: list[BoardRun] = []  # by their numbers
        self.version = 0
        self.born = secrets.token_hex(4)  # numbers and versions are those of this board: another one has others
        self._by_name: dict[str, BoardRun] = {}
        self._lock = threading.Lock()
        self._ledger: tuple[float, int] = (0.0, -1)
        self._lines: dict[str, Mapping[str, Any]] = {}
        self._listed = -LISTED_EVERY
        self._next = 0  # the run that the next refresh begins with
        self._filters: dict[str, list[str]] = {}
        self._kept: OrderedDict[int, Curve] = OrderedDict()  # curves in memory, the last one asked for at the end

    def refresh(self, seconds: float = READING) -> None:
        """Look for new folders, and for what changed in those that are known, for about so long."""
        with self._lock:
            self._list()
            until, changed = time.monotonic() + seconds, False
            for _ in range(len(self.runs)):
                run = self.runs[self._next % len(self.runs)]
                self._next += 1
                if run.refresh(self._lines.get(run.name, {})):
                    run.version, changed = self.version + 1, True
                if time.monotonic() > until:
                    break
            if changed:
                self.version += 1
                self._renew_filters()

    @property
    def unread(self) -> int:
        """Runs of which nothing but the name is known yet."""
        return sum(run.version == 0 for run in self.runs)

    def _list(self) -> None:
        if time.monotonic() - self._listed < LISTED_EVERY:
            return
        ledger = self.root / "ledger.jsonl"
        try:
            stamp = (ledger.stat().st_mtime, ledger.stat().st_size)
        except OSError:
            stamp = (0.0, 0)
        if stamp != self._ledger:
            self._ledger, self._lines = stamp, last_lines(ledger)
        paths = {self._name(path): path for path in find_runs(self.root)}
        for run in self.runs:
            if run.path is None and run.name in paths:  # whose folder was gone, and is there again
                run.place(paths[run.name])
        for name in sorted((paths.keys() | self._lines.keys()) - self._by_name.keys()):
            run = BoardRun(len(self.runs), name, paths.get(name))
            self.runs.append(run)
            self._by_name[name] = run
        self._listed = time.monotonic()

    def _name(self, path: Path) -> str:
        return self.root.absolute().name if path == self.root else path.relative_to(self.root).as_posix()

    def _renew_filters(self) -> None:
        """The keys of the science by which the runs differ, those that people ask for first, with their values."""
        values: defaultdict[str, set[str]] = defaultdict(set)
        for run in self.runs:
            for key, value in run.labels.items():
                if len(values[key]) <= MOST_VALUES:
                    values[key].add(value)
        several = [key for key in (*ALWAYS, *sorted(values)) if len(values.get(key, ())) > 1 and key not in NO_FILTER]
        kept = {key: sorted(values[key]) for key in list(dict.fromkeys(several))[:MOST_KEYS]}
        if kept != self._filters:
            self._filters = kept
            for run in self.runs:  # whose rows tell other keys now
                run.version = self.version if run.version else 0

    def shown_labels(self, run: BoardRun) -> dict[str, str]:
        return {key: run.labels[key] for key in (*self._filters, *ALWAYS) if key in run.labels}

    def index(self, since: int) -> dict[str, Any]:
        """What changed since the version that a page has seen; 0: everything."""
        with self._lock:
            runs = [run for run in self.runs if run.version > since or since == 0]
            filters = {key: values if len(values) <= MOST_VALUES else [] for key, values in self._filters.items()}
            known = {"born": self.born, "version": self.version, "unread": self.unread}
            return known | {"runs": runs, "filters": filters}

    def run(self, number: int) -> BoardRun | None:
        return self.runs[number] if 0 <= number < len(self.runs) else None

    # --- curves ---

    def curves(self, asked: Asked, reading: float = READING) -> list[dict[str, Any]]:
        """The points of each run that is asked for, at most VIEW_POINTS in all: x, y; of losses those held out beside
        them; `whole`: whether the file was read to its end, else it is a sketch, and asking again reads on."""
        most = max(LEAST_POINTS, min(MOST_POINTS, VIEW_POINTS // max(1, asked.of, len(asked.numbers))))
        until = time.monotonic() + reading
        with self._lock:
            found = []
            for number in asked.numbers:
                run = self.run(number)
                if run is not None and run.path is not None:
                    whole = self._read(run, until)
                    found.append({"id": number, "whole": whole, **self._points(run, asked, most, whole)})
            self._forget()
            return found

    def _read(self, run: BoardRun, until: float) -> bool:
        assert run.path is not None
        if run.curve is None:
            run.curve = Curve(run.path / "metrics.jsonl")
        self._kept[run.number] = run.curve
        self._kept.move_to_end(run.number)
        return run.curve.read(until) if time.monotonic() < until else run.curve.unread == 0

    def _forget(self) -> None:
        """Drop the curves that nobody asked for longest, where there are too many."""
        while len(self._kept) > 1 and sum(curve.memory for curve in self._kept.values()) > MOST_BYTES:
            number, _ = self._kept.popitem(last=False)
            self.runs[number].curve = None

    def _points(self, run: BoardRun, asked: Asked, most: int, whole: bool) -> dict[str, Any]:
        curve = run.curve
        assert curve is not None
        found: dict[str, Any] = {"steps": len(curve)}
        rough = None if whole else run.sketched()
        if asked.y in OF_STEPS:
            x, y = curve.step(asked.x), curve.step(asked.y)
            if rough is not None and len(rough):
                beyond = rough.step("step") > (curve.step("step")[-1] if len(curve) else -1)
                x = np.concatenate([x, rough.step(asked.x)[beyond]])
                y = np.concatenate([y, rough.step(asked.y)[beyond]])
            drawn = running_mean(y, asked.mean).astype(y.dtype) if asked.mean > 1 else y
            found |= _columns(x, drawn, asked, most)
            if asked.mean > 1 and max(asked.of, len(asked.numbers)) <= PALE:
                found["pale"] = _columns(x, y, asked, most)
        if asked.of == 1:
            found["event_x"] = _places(curve, [event.get("step") for event in run.events[-MOST_EVENTS:]], asked.x)
        held = f"held_{asked.y}" if asked.y == "loss" else asked.y
        if held.startswith("held_"):
            evaluations = curve.evaluations or (rough.evaluations if rough else [])
            x = np.array([one[asked.x] for one in evaluations], float)
            found["held"] = _columns(x, np.array([one[held] for one in evaluations], float), asked, most)
        return found

    # --- one run ---

    def details(self, number: int) -> dict[str, Any] | None:
        """What one run is about: events, texts it wrote, price planned and so far. None where there is no such run."""
        with self._lock:
            run = self.run(number)
            if run is None:
                return None
            events = [
                {
                    "name": shorter(event["name"], 60),
                    "step": whole(event.get("step")),
                    "text": shorter(event.get("text", "")),
                }
                for event in run.events[-MOST_EVENTS:]
            ]
            spent = run.spent
            return {
                "id": number,
                "name": run.name,
                "state": run.state,
                "labels": self.shown_labels(run),
                "events": events,
                "samples": text_samples(run.path, 50) if run.path else [],
                "price": {key: [run.plan.get(key), spent.get(key)] for key in PRICES},
                "run": run,
            }


def _columns(x: Any, y: Any, asked: Asked, most: int) -> dict[str, Any]:
    x, y = stated(x, y)
    seen = visible(x, asked.low, asked.high)
    x, y = thinned(x[seen], y[seen], most)
    return {"x": plain(x), "y": plain(y)}


def _places(curve: Curve, steps: Sequence[object], axis: str) -> dict[int, float | int | None]:
    """Where on an axis the first step at or behind each of these lies."""
    wanted = sorted({step for step in map(whole, steps) if step is not None})
    known = curve.step("step")
    if not len(known):
        return {}
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return dict(zip(wanted, plain(curve.step(axis)[at]), strict=True))


def opened(root: Path) -> Board:
    """The board of a root. Raises UserError where it is missing, no folder, or has no runs."""
    try:
        if not root.exists():
            raise UserError(f"board: {root}: there is no such folder; name the root of some runs")
        if not root.is_dir():
            raise UserError(f"board: {root}: a file given, the root of some runs wanted")
        board = Board(root)
        board.refresh(0.0)
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"board: {root}: {getattr(error, 'strerror', None) or error}") from None
    if not board.runs:
        raise UserError(f"board: no runs under {root}; name the root of some runs")
    return board


X_AXES = AXES
Y_AXES = (*OF_STEPS, *(f"held_{name}" for name in OF_EVALUATIONS))
