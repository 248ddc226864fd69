"""Signals become a wish that the loop grants at the next step boundary."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from types import FrameType

ECHO_SECONDS = 1.0  # a terminal, an agent and a batch system may each pass on the same signal


class StopRequest:
    """Remembers the first TERM, INT or USR2; one more, other than its echo, ends the process at once."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._first = 0.0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._first = signal.Signals(number).name, now
        elif now - self._first > ECHO_SECONDS:
            os._exit(128 + number)

    def __bool__(self) -> bool:
        return self.signal is not None


def die_with_parent() -> None:
    """A rank must not train on when the process that started it was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
