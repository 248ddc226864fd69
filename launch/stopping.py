"""The stop signals of a process that starts ranks under torchrun's agent."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from trainer.training.faults.signals import (
    BEGUN,
    STOP_FILE,
    STOP_SIGNALS,
    STOPPED,
    Interrupted,
    StopRequest,
    interrupt_on_signals,
    say_at_once,
)

NATIVE_SECONDS = 2.0  # that native code may keep a signal from the interpreter while there are no ranks


class AgentStop(StopRequest):
    """Passes the first stop signal on to the ranks through a file that they look at between two steps.

    A signal would kill a rank that does not listen yet, and torch's agent sends those that it does not know. Ranks that
    have not ended after `save_seconds` are ended, and so are those that have nothing to save yet, where all ranks of
    the run are this agent's (`alone`). Where there are none, or none that save (null), the signal raises Interrupted:
    nothing is lost. A key that is pressed twice ends this process at once, and its ranks with it.
    """

    def __init__(
        self,
        folder: Path,
        save_seconds: float | None,
        run: Path | None = None,
        verb: str = "train",
        *,
        alone: bool = False,
    ) -> None:
        self._folder, self._save_seconds, self._alone = folder, save_seconds, alone
        self.verdict, self.file = folder / "verdict", folder / "stop"
        self.verdict.touch()
        self._noticed = threading.Event()
        super().__init__(run, verb)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._noticed.set()
        first = self._signal is None
        if first and not self._over and (self._save_seconds is None or not _has_children()):
            self._signal = signal.Signals(number).name
            self.file.write_text(self._signal)
            raise Interrupted(number)
        if first and not self._over and self._alone and not self.file.with_name(BEGUN).exists():
            self._end(self._ways_on())
        super()._heard(number, frame)
        if self._over or not first or self._save_seconds is None:
            return
        self.file.write_text(signal.Signals(number).name)
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

    def _end(self, why: str) -> NoReturn:
        known = self.verdict.read_text()
        if not known:
            say_at_once(why)
        self._leave(int(known or STOPPED))

    def _leave(self, code: int) -> NoReturn:
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(code)

    def close(self) -> None:
        """The ranks have ended: what comes now is remembered and changes nothing, except where nothing was saved."""
        self.end()
        if self._save_seconds is None:
            interrupt_on_signals()


@contextlib.contextmanager
def stopping_ranks(
    save_seconds: float | None, run: Path | None = None, verb: str = "train", *, alone: bool = False
) -> Iterator[AgentStop]:
    """Ranks that are started in here are told of stop signals, and write how they ended into `verdict`."""
    with tempfile.TemporaryDirectory(prefix="isoflop-") as folder:
        stop = AgentStop(Path(folder), save_seconds, run, verb, alone=alone)
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
