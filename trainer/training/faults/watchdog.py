"""Ends a job that hangs, and says which rank was late.

A thread of each rank compares the time that the current step (evaluation, checkpoint) has taken with the median of the
earlier ones. Past the limit each rank writes down its stacks and its last collectives, and all exchange where they are
over connections of their own; one of them writes that into the logbook, and all end, so that the launcher can start
them again. A rank that answers from an earlier place than the others did not arrive; one that does not answer has
stopped altogether.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from torch.distributed import Store

from trainer.config import Config
from trainer.run_folder import RunFolder
from trainer.trackers.jsonl import append_event
from trainer.trackers.records import Event
from trainer.training.distributed import World, meet
from trainer.training.faults.flight_record import Collective, differences
from trainer.training.faults.hang_record import HangRecord
from trainer.training.faults.reporting import report_failure
from trainer.training.hooks import Hook
from trainer.utils.outcomes import ExitCode

TIMED_PHASES = (
    "evaluation",
    "tasks",
    "checkpoint",
    "verification",
    "paused",
)  # beside steps, whose own phases are not told apart
KNOWN = 3  # times that something was done before its median is trusted
ANSWER_SECONDS = 10.0  # that ranks have to say where they are
RECORD_SECONDS = 3.0  # that PyTorch has to say what its last collectives were, before the ranks answer
NAMED = 4  # files and differences of collectives that the text of the event names


@dataclass(frozen=True)
class Doing:
    what: str  # start, step, evaluation, checkpoint
    step: int
    since: float  # monotonic


class Watchdog(Hook):
    """Hears of steps, evaluations and checkpoints as they begin; costs two assignments a step."""

    def __init__(self, config: Config, world: World, run: Path, attempt: int, position: Callable[[], int]) -> None:
        """`position` counts the places that every rank passes in the same order."""
        self.config, self.world, self.run, self.attempt, self.position = config.faults, world, run, attempt, position
        self._curriculum = config.curriculum
        self._first_seconds = config.launch.timeout_seconds
        self._taken: dict[str, deque[float]] = {}
        self._doing = Doing("start", 0, time.monotonic())
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def step_began(self, step: int) -> None:
        self._begin("step", step + 1)
        if step == self._curriculum.stretch(step).first:  # what steps of another shape took says nothing of these
            self._taken.pop("step", None)

    def phase(self, name: str, step: int) -> None:
        if name in TIMED_PHASES:
            self._begin(name, step)

    def _begin(self, what: str, step: int) -> None:
        """From now on the ranks do this."""
        now, before = time.monotonic(), self._doing
        self._taken.setdefault(before.what, deque(maxlen=64)).append(now - before.since)
        self._doing = Doing(what, step, now)

    def closed(self, status: str, step: int, text: str) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def limit(self, what: str) -> float:
        """Seconds after which this has hung."""
        taken = list(self._taken.get(what, ()))
        if len(taken) < KNOWN:
            return max(self._first_seconds, self.config.hang_seconds)
        return max(self.config.hang_seconds, self.config.hang_factor * median(taken))

    def _watch(self) -> None:
        pause = min(1.0, self.config.hang_seconds / 10)
        while not self._closed.wait(pause):
            doing = self._doing
            seconds, limit = time.monotonic() - doing.since, self.limit(doing.what)
            if seconds > limit:
                self._end(doing, seconds)
            _last_resort(limit + 4 * ANSWER_SECONDS)  # to meet, to answer, to end
        faulthandler.cancel_dump_traceback_later()

    def _end(self, doing: Doing, seconds: float) -> None:
        _last_resort(6 * ANSWER_SECONDS)  # this thread may be stopped too, by what it asks
        rank, position, stack = self.world.rank, self.position(), stacks()
        said = {"rank": rank, "attempt": self.attempt, "step": doing.step, "doing": doing.what, "position": position}
        record = HangRecord(RunFolder(self.run).hang_record(self.attempt, rank), {**said, "stack": stack})
        record.wait(RECORD_SECONDS)
        mine = {"position": position, "stack": stack, "file": record.name, "collectives": record.collectives}
        answers, store = {rank: mine}, None
        with contextlib.suppress(Exception):  # whatever is broken, this process ends
            if self.world.size > 1:
                store = meet(-1, self.world.size, ANSWER_SECONDS, wait_for_all=False)
                answers = self._exchange(store, mine)
        where = f"{doing.what} {doing.step}" if doing.what == "step" else f"{doing.what} after step {doing.step}"
        text, data = found(answers, self.world.size, f"hang: {where} has taken {seconds:.0f} s")
        if rank == min(answers):
            append_event(self.run, Event("hang", time.time(), doing.step, text, data, self.attempt))
        with contextlib.suppress(Exception):
            if store is not None:
                self._end_together(store, writes=rank == min(answers))
        report_failure(text, user=True)
        os._exit(ExitCode.FAILED)

    def _exchange(self, store: Store, mine: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """What every rank answers in time, by rank."""
        store.set(f"hang/{self.world.rank}", json.dumps(mine))
        missing, answers = set(range(self.world.size)), {}
        deadline = time.monotonic() + ANSWER_SECONDS
        while missing and time.monotonic() < deadline:
            for rank in sorted(missing):
                if store.check([f"hang/{rank}"]):
                    answers[rank] = json.loads(store.get(f"hang/{rank}"))
            missing -= answers.keys()
            time.sleep(0.1)
        return answers

    def _end_together(self, store: Store, *, writes: bool) -> None:
        """Return when the rank that writes has written: one that ended earlier would break the collective in which the
        writer's main thread waits, and that thread would end the writer before its line is in the logbook."""
        if writes:
            store.set("hang/written", "")
        deadline = time.monotonic() + ANSWER_SECONDS
        while not store.check(["hang/written"]) and time.monotonic() < deadline:
            time.sleep(0.1)


def found(answers: Mapping[int, Mapping[str, Any]], size: int, what: str) -> tuple[str, dict[str, Any]]:
    """The line about a hang of `size` ranks, and what the logbook has beside it, by what each rank answered: its
    position, stack, file (None: not written) and newest collectives."""
    front = max(answer["position"] for answer in answers.values())
    late = sorted(rank for rank, answer in answers.items() if answer["position"] < front)
    silent = [rank for rank in range(size) if rank not in answers]
    who = [f"rank {rank} did not arrive" for rank in late] + [f"rank {rank} does not answer" for rank in silent]
    told = {rank: [Collective(*one) for one in answer["collectives"]] for rank, answer in sorted(answers.items())}
    differing = differences(told) if size > 1 else []
    files = [answer["file"] for _, answer in sorted(answers.items()) if answer["file"]]
    parts = [what, ", ".join(who) or "all ranks are at the same place", *differing[:NAMED]]
    if files:
        more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
        parts.append(f"see {', '.join(files[:NAMED])}{more}")
    ranks = {rank: {key: answer[key] for key in ("position", "stack")} for rank, answer in answers.items()}
    data = {"late": late, "silent": silent, "ranks": ranks, "collectives": differing, "files": files}
    return "; ".join(parts), {**data, "done": "all ranks are ended"}


def stacks() -> str:
    """The Python stacks of all threads but the one that asks."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            parts.append(f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(parts)


def _last_resort(seconds: float) -> None:
    """Where native code keeps the interpreter to itself no thread of Python runs: then this dumps and ends."""
    with contextlib.suppress(Exception):  # a stderr without a file behind it
        faulthandler.dump_traceback_later(seconds, exit=True)
