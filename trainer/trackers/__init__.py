"""Who hears of a run: the terminal, the run folder's JSON lines, Weights & Biases.

The loop calls `start`, then `step`, `evaluation` and `event` as things happen, then `finish`. Only rank 0 has trackers.
No tracker can stop the run: what one raises is told once on stderr.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.descriptions.registry import imported
from trainer.descriptions.trackers import TRACKERS, trackers_on
from trainer.trackers.jsonl import read_events, read_metrics, read_samples
from trainer.trackers.records import EvaluationRecord, Event, StepRecord, TextSample, alert_of
from trainer.trackers.tracker import RunContext, Tracker, brief, warn
from trainer.utils.errors import UserError

__all__ = [
    "RunContext",
    "Tracker",
    "Trackers",
    "check",
    "make_trackers",
    "notes_on",
    "read_events",
    "read_metrics",
    "read_samples",
    "settled",
]

OPTIONAL = ("samples", "alert")  # methods that not every tracker has


def make_trackers(config: Config, run: Path, *, rank: int, resumed_from: int = 0) -> Trackers:
    """The trackers that the configuration asks for; none on ranks other than 0."""
    if rank != 0:
        return Trackers(())
    makers = [TRACKERS.implementation(one.name) for one in trackers_on(config.tracker)]
    return Trackers([make(config, run, resumed_from) for make in makers], config.tracker.alerts, run.name)


def check(config: Config) -> None:
    """Before a run starts: raise UserError where a tracker that is asked for cannot do what it promises."""
    on = trackers_on(config.tracker)
    missing = [
        f"tracker.{one.off[0]}: {one.name} needs the extra: pip install '{one.library[1]}'"
        for one in on
        if one.library is not None and one.off is not None and not _is_there(one.library[0])
    ]
    if missing:
        raise UserError("\n".join(missing))
    for one in on:
        if one.check is not None:
            imported(one.check)(config)


def _is_there(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def settled(config: Config, before: Config | None = None) -> Config:
    """The configuration with what the trackers take from their surroundings. before: that of a run which goes on."""
    for one in trackers_on(config.tracker):
        if one.settle is not None:
            config = imported(one.settle)(config, before)
    return config


def notes_on(config: Config) -> list[str]:
    """What the trackers say of a configuration that is frozen, a line each."""
    return [line for one in trackers_on(config.tracker) if one.notes for line in imported(one.notes)(config)]


class Trackers:
    """Passes every record on to each tracker, and keeps their failures away from the run.

    An `OSError` (full disk, no network) may pass: the tracker is tried again with the next record. Anything else is a
    fault in the tracker: it hears no more until `finish`. Either is told once, and `finish` tells what was missed.
    """

    def __init__(self, trackers: Sequence[Tracker], alerts: Collection[str] = (), run: str = "") -> None:
        """alerts: kinds of events of which trackers are to alert people; run: its name there."""
        self._trackers, self._alerts, self._run = tuple(trackers), alerts, run
        self._lost: dict[str, int] = {}  # records that a failing tracker has missed
        self._dropped: set[str] = set()

    def start(self, context: RunContext) -> None:
        self._tell("start", context)

    def step(self, record: StepRecord) -> None:
        self._tell("step", record)

    def evaluation(self, record: EvaluationRecord) -> None:
        self._tell("evaluation", record)

    def event(self, event: Event) -> None:
        self._tell("event", event)
        if (alert := alert_of(event, self._alerts, self._run)) is not None:
            self._tell("alert", alert)

    def samples(self, samples: list[TextSample]) -> None:
        """What the model wrote after one of its steps, for trackers that have text."""
        self._tell("samples", samples)

    def finish(self, status: str, summary: dict[str, Any] | None = None) -> None:
        """The last call; `status` is one word for the person, such as finished, stopped or failed."""
        self._tell("finish", status, summary or {})

    def _tell(self, what: str, *arguments: Any) -> None:
        for tracker in self._trackers:
            name = tracker.name
            if name in self._dropped and what != "finish":
                continue
            if what in OPTIONAL and not hasattr(tracker, what):
                continue
            try:
                getattr(tracker, what)(*arguments)
            except OSError as error:
                if name not in self._lost and name not in self._dropped:
                    warn(f"{name}: {brief(error)}; the run goes on, {name} is tried again")
                self._lost[name] = self._lost.get(name, 0) + 1
            except Exception as error:  # whatever a tracker raises, the run goes on
                if name not in self._dropped:
                    warn(f"{name}: {brief(error)}; the run goes on without it")
                self._dropped.add(name)
            if what == "finish" and self._lost.get(name):
                warn(f"{name}: {self._lost[name]} records are missing")
