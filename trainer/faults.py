"""Signals become a wish that the loop grants at the next step boundary."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType


class StopRequest:
    """Remembers the first TERM, INT or USR2; a second TERM or INT ends the process at once."""

    def __init__(self) -> None:
        self.signal: str | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number != signal.SIGUSR2:
            os._exit(128 + number)
        self.signal = signal.Signals(number).name

    def __bool__(self) -> bool:
        return self.signal is not None


def die_with_parent() -> None:
    """A rank must not train on when the process that started it was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
