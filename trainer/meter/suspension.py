"""Seconds in which this process was stopped: SIGSTOP, a suspended job, a frozen virtual machine.

A thread looks at the clock twice a second. Where it comes much too late and the process has used no processor time
meanwhile, nothing of it ran, which is neither work nor waiting for a device: while one waits, the thread goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BEAT_SECONDS = 0.5
LATE_SECONDS = 2.0  # between two looks; a busy host delays a thread, seldom by so much
BUSY_SHARE = 0.05  # of one thread; a process that computes while its look is late was not stopped


class Suspension:
    """Adds up what the process was stopped. Looks come from a thread of its own, and from whoever asks."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, cpu_seconds: Callable[[], float] = time.process_time
    ) -> None:
        self._clock, self._cpu_seconds = clock, cpu_seconds
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._last = clock(), cpu_seconds()
        self._seconds = 0.0

    def start(self) -> None:
        threading.Thread(target=self._beat, name="suspension", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def seconds(self) -> float:
        """Since the beginning."""
        with self._lock:
            now, cpu = self._clock(), self._cpu_seconds()
            passed, busy = now - self._last[0], cpu - self._last[1]
            if passed > LATE_SECONDS and busy < BUSY_SHARE * passed:
                self._seconds += passed - BEAT_SECONDS
            self._last = now, cpu
            return self._seconds

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self.seconds()
