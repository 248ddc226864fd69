"""One start of the command line: its processes, what they are sent, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

MARKER = "ISOFLOP_CHAOS_MARKER"  # variable: every process of an attempt inherits it
AHEAD = 10  # niceness by which who watches goes before what is watched: a phase may last milliseconds


class Attempt:
    """`isoflop train` with these words, in a session of its own."""

    def __init__(self, words: list[str], folder: Path, console: Path, environment: dict[str, str]) -> None:
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}"
        with open(console, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainer", "train", *words],
                cwd=folder,
                env={**os.environ, **environment, MARKER: self._mark},
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_step_back,
            )

    @property
    def code(self) -> int | None:
        """The launcher's exit code, negative for a signal; None while it lives."""
        return self.process.poll()

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Whether it came true within these seconds, and before the launcher ended."""
        deadline = time.monotonic() + seconds
        while not until():
            if self.code is not None or time.monotonic() > deadline:
                return until()
            time.sleep(0.001)
        return True

    def ended(self, seconds: float) -> bool:
        """Wait for the launcher's end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.code is not None

    def members(self) -> list[psutil.Process]:
        """Every living process that came of this attempt, whatever its parent is now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARKER) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def ranks(self) -> dict[int, psutil.Process]:
        """Ranks that are processes of their own."""
        found = {}
        for process in _below(self.process.pid):
            with contextlib.suppress(psutil.Error, ValueError):
                if "trainer.worker" in process.cmdline():
                    found[int(process.environ()["RANK"])] = process
        return found

    def listens(self) -> bool:
        """Whether the launcher catches signals by now: before that they are the interpreter's affair."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return False
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def has(self, target: str) -> bool:
        """Whether this target is there to be hit."""
        wanted = {"rank 0": 0, "other rank": 1}
        return target not in wanted or wanted[target] in self.ranks()

    def send(self, target: str, number: signal.Signals, which: float = 0.0) -> str:
        """A signal to the launcher, its process group, a rank, or all of them; `which` in [0, 1) chooses among the
        other ranks. Returns whom it went to."""
        if target in ("launcher", "group"):
            with contextlib.suppress(ProcessLookupError):
                (os.kill if target == "launcher" else os.killpg)(self.process.pid, number)
            return target
        if target == "all":
            for process in self.members():
                _send(process, number)
            return target
        ranks = self.ranks()
        others = sorted(ranks)[1:]
        rank = 0 if target == "rank 0" else others[int(which * len(others))]
        _send(ranks[rank], number)
        return f"rank {rank}"

    def orphans(self, seconds: float) -> list[str]:
        """What still lives when the launcher has ended and this time has passed; it is killed then."""
        deadline = time.monotonic() + seconds
        while (left := self.members()) and time.monotonic() < deadline:
            time.sleep(0.05)
        names = []
        for process in left:
            with contextlib.suppress(psutil.Error):
                names.append(f"{process.pid} {' '.join(process.cmdline()[:6])}")
            _send(process, signal.SIGKILL)
        return names

    def end(self) -> None:
        """Kill everything."""
        for process in self.members():
            _send(process, signal.SIGKILL)
        self.process.wait()


def go_ahead() -> None:
    """Let this process run before its attempts, where that is allowed."""
    with contextlib.suppress(PermissionError):
        os.nice(-AHEAD)


def _step_back() -> None:
    if os.nice(0) < 0:
        os.nice(AHEAD)


def _below(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        yield from psutil.Process(pid).children(recursive=True)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)
