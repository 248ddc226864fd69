"""Processes that report rows of JSON through a pipe, in limited time: one that crashes or hangs loses its case only."""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

GRACE = 5.0  # seconds between asking a process to end and ending it
_PR_SET_PDEATHSIG = 1

Command = Callable[[Sequence[str], float], list[str]]
"""(names of cases, seconds) -> what runs them."""


def _die_with_parent() -> None:
    """However this process ends, its children end with it (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Child:
    process: subprocess.Popen[bytes]
    pipe: int
    names: list[str]
    begun: str | None = None
    since: float = 0.0
    rest: bytes = b""
    told: int = 0  # lines so far


def start(
    command: Command, names: Sequence[str], seconds: float, log: IO[bytes], environment: Mapping[str, str]
) -> Child:
    """A process in a group of its own; what it prints goes to the log."""
    here, there = os.pipe()
    os.set_blocking(here, False)
    try:
        process = subprocess.Popen(
            command(names, seconds),
            env={**os.environ, **environment, "PROOF_ROWS": str(there)},
            pass_fds=(there,),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    finally:
        os.close(there)
    return Child(process, here, list(names), since=time.monotonic())


def end(child: Child, grace: float = GRACE) -> None:
    """Ask the child's group to end, then end it. What it has written can still be read."""
    for number, patience in ((signal.SIGINT, grace), (signal.SIGKILL, None)):
        if child.process.poll() is None:
            try:
                os.killpg(child.process.pid, number)
                child.process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def _lines(child: Child) -> list[dict[str, Any]]:
    """The whole lines that stand in the pipe."""
    found: list[dict[str, Any]] = []
    while True:
        try:
            block = os.read(child.pipe, 1 << 16)
        except BlockingIOError:
            return found
        if not block:
            return found
        *whole, child.rest = (child.rest + block).split(b"\n")
        found += [json.loads(line) for line in whole]


@dataclass
class Group:
    """Processes that run at the same time, each through a list of names.

    longest: seconds that a case may take before its process is ended. tell: gets every row as it comes. stopping: asked
    all the time; True ends everything.
    """

    command: Command
    log: Path
    environment: Mapping[str, str]
    longest: Callable[[str], float]
    tell: Callable[[dict[str, Any]], None]
    stopping: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    alive: list[Child] = field(default_factory=list)
    broken: bool = False  # a process ended before any case: another would do the same

    def run(self, lists: Sequence[Sequence[str]], until: float) -> str:
        """Until all have ended or the time is over; returns what became of it in words."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        wrong: list[str] = []
        with open(self.log, "ab") as log:
            try:
                for names in lists:
                    if names:
                        self._start(names, until, log)
                while self.alive and self.clock() < until and not self.stopping():
                    self._wait(max(0.0, min(0.2, until - self.clock())))
                    for child in list(self.alive):
                        self._look_at(child, until, log, wrong)
                if self.alive:
                    wrong.append("interrupted" if self.stopping() else "stopped at the end of its time")
                return "; ".join(dict.fromkeys(wrong)) or "done"
            finally:
                for child in list(self.alive):
                    self._end(child)

    def _start(self, names: Sequence[str], until: float, log: IO[bytes]) -> None:
        self.alive.append(start(self.command, names, max(0.0, until - self.clock()), log, self.environment))

    def _end(self, child: Child) -> None:
        end(child)
        self._take(child)
        self.alive.remove(child)
        os.close(child.pipe)

    def _wait(self, seconds: float) -> None:
        """Until a row comes or a child ends (its pipe is closed then), or the seconds are over."""
        with selectors.DefaultSelector() as selector:
            for child in self.alive:
                selector.register(child.pipe, selectors.EVENT_READ)
            selector.select(seconds)

    def _look_at(self, child: Child, until: float, log: IO[bytes], wrong: list[str]) -> None:
        """Take its rows; where it fell or hangs in a case, another goes on with the cases after it."""
        code = child.process.poll()  # before reading: what it wrote before its end is in the pipe now
        self._take(child)
        seconds = self.clock() - child.since
        late = code is None and child.begun is not None and seconds > self.longest(child.begun)
        if code is None and not late:
            return
        self._end(child)
        why = f"stopped after {seconds:.0f} s" if late else f"its process ended with exit code {code}"
        if child.begun is not None:
            name = child.begun
            self.tell({"name": name, "status": "stopped" if late else "failed", "why": why})
            child.names.remove(name)
        elif code and not child.told:
            wrong.append(f"{why} before any case; see {self.log.name}")
            self.broken = True
            return
        if (late or code) and child.names and self.clock() < until:
            self._start(child.names, until, log)

    def _take(self, child: Child) -> None:
        for line in _lines(child):
            child.told += 1
            if "begin" in line:
                child.begun, child.since = line["begin"], self.clock()
                continue
            if line["name"] == child.begun:
                child.begun = None
                child.names.remove(line["name"])
            self.tell(line)
