"""What a tracker is, and what it is told when a run starts."""

from __future__ import annotations

import contextlib
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainer.config import Config
from trainer.trackers.records import EvaluationRecord, Event, StepRecord

# Held while a library is imported: two at once undo each other's filters of warnings, which then reach the terminal.
IMPORTS = threading.Lock()


@dataclass(frozen=True)
class RunContext:
    """One attempt at a run, as its trackers see it."""

    config: Config
    run: Path  # the run's folder
    total_steps: int | None  # None where a measured budget ends the run
    parameters: int
    world_size: int
    resumed_from: int = 0  # step of the checkpoint that this attempt goes on from; 0 for a fresh start
    attempt: int = 0
    notes: tuple[str, ...] = ()  # on the hosts it runs on, a line each


class Tracker(Protocol):
    """A consumer of the loop's records. It may raise: `Trackers` keeps that away from the run.

    One that has text may also have `samples(self, samples: list[TextSample])`, one that can call people
    `alert(self, alert: Alert)`.
    """

    name: str

    def start(self, context: RunContext) -> None: ...
    def step(self, record: StepRecord) -> None: ...
    def evaluation(self, record: EvaluationRecord) -> None: ...
    def event(self, event: Event) -> None: ...
    def finish(self, status: str, summary: dict[str, Any]) -> None: ...


def due(step: int, every: int, context: RunContext) -> bool:
    """Whether a step is among those shown: every so many, and the first and the last of the attempt."""
    return step % every == 0 or step == context.resumed_from + 1 or step == context.total_steps


def warn(text: str) -> None:
    """One line on stderr; a closed or full stderr is no reason to stop."""
    with contextlib.suppress(OSError, ValueError):
        print(f"isoflop: {text}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """One line on stdout, where progress goes."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)


def brief(error: BaseException) -> str:
    """One line for an exception: its kind and the beginning of its text."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(text.split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
