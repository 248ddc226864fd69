"""The stop signals of a process that starts ranks under torchrun's agent."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from trainer.training.faults.signals import (
    STOP_FILE,
    STOP_SIGNALS,
    STOPPED,
    Interrupted,
    StopRequest,
    interrupt_on_signals,
)

NATIVE_SECONDS = 2.0  # that native code may keep a signal from the interpreter while there are no ranks


class AgentStop(StopRequest):
    """Passes the first stop signal on to the ranks through a file that they look at between two steps.

    A signal would kill a rank that does not listen yet, and torch's agent sends those that it does not know. Ranks that
    have not ended after `save_seconds` are ended. Where there are none, or none that save (null), the signal raises
    Interrupted: nothing is lost. A key that is pressed twice ends this process at once, and its ranks with it.
    """

    def __init__(self, folder: Path, save_seconds: float | None) -> None:
        self._folder, self._save_seconds = folder, save_seconds
        self.verdict, self.file = folder / "verdict", folder / "stop"
        self.verdict.touch()
        self._noticed = threading.Event()
        self._over = False
        super().__init__()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._noticed.set()
        first = self._signal is None
        super()._heard(number, frame)
        if self._over or not first:
            return
        self.file.write_text(signal.Signals(number).name)
        if self._save_seconds is None or not _has_children():
            raise Interrupted(number)
        timer = threading.Timer(self._save_seconds, self._give_up)
        timer.daemon = True
        timer.start()

    def _give_up(self) -> None:
        if not self._over:
            self._end(f"the ranks did not save within {self._save_seconds:g} s (launch.save_seconds) and were ended")

    def watch(self, pipe: int) -> None:
        """End this process where a signal finds it in native code, waiting for other nodes. A thread's whole work."""
        while number := os.read(pipe, 1):
            if number[0] not in STOP_SIGNALS or self._noticed.wait(NATIVE_SECONDS) or self._over or _has_children():
                continue
            self._end(f"{signal.Signals(number[0]).name} while there were no ranks; the run can go on later")
        os.close(pipe)

    def _end(self, why: str) -> None:
        known = self.verdict.read_text()
        if not known:
            with contextlib.suppress(OSError):
                os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"isoflop: {why}\n".encode())
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(int(known or STOPPED))

    def close(self) -> None:
        """The ranks have ended: what comes now is remembered and changes nothing, except where nothing was saved."""
        self._over = True
        if self._save_seconds is None:
            interrupt_on_signals()


@contextlib.contextmanager
def stopping_ranks(save_seconds: float | None) -> Iterator[AgentStop]:
    """Ranks that are started in here are told of stop signals, and write how they ended into `verdict`."""
    with tempfile.TemporaryDirectory(prefix="isoflop-") as folder:
        stop = AgentStop(Path(folder), save_seconds)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # of C: told at once, whatever runs
        threading.Thread(target=stop.watch, args=(reader,), daemon=True).start()
        os.environ[STOP_FILE] = str(stop.file)
        try:
            yield stop
        finally:
            del os.environ[STOP_FILE]
            signal.set_wakeup_fd(before)
            os.close(writer)
            stop.close()


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
