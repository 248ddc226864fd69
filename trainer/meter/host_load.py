"""Whether a process gets the processor cores that it asks for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median_low

LOADAVG = Path("/proc/loadavg")
TASKS = Path("/proc/self/task")
LOOKS, PAUSE = 5, 0.02  # how often the host is looked at, seconds between two looks
LEAST_SECONDS = 1.0  # between two readings of what threads waited


def runnable(sleep: Callable[[float], None] = time.sleep) -> int | None:
    """How many threads of this host want a core beside the one that asks: the middle of a few looks.

    None where the system does not say. All of the host are counted, in a container too.
    """
    found = []
    for _ in range(LOOKS):
        try:
            found.append(int(LOADAVG.read_text().split()[3].partition("/")[0]) - 1)
        except (OSError, ValueError, IndexError):
            return None
        sleep(PAUSE)
    return max(0, median_low(found))


class Waiting:
    """Share of their time that the threads of this process, ready to run, wait for a core: Linux' own account."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at, self._before, self._share = clock(), _ran_and_waited(), None

    _share: float | None

    def share(self) -> float | None:
        """Since the reading before, at most one a second: the last one until then. None where nothing is known."""
        now = self._clock()
        if self._before is None or now - self._at < LEAST_SECONDS:
            return self._share
        ran_and_waited = _ran_and_waited()
        if ran_and_waited is None:
            return self._share
        ran, waited = (max(0, new - old) for new, old in zip(ran_and_waited, self._before, strict=True))
        self._at, self._before = now, ran_and_waited
        self._share = waited / (ran + waited) if ran + waited else 0.0
        return self._share


def _ran_and_waited() -> tuple[int, int] | None:
    """Nanoseconds on a core and waiting for one, of all threads that live; None where the kernel keeps no account."""
    ran = waited = 0
    try:
        for task in TASKS.iterdir():
            try:
                words = (task / "schedstat").read_text().split()
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
            ran, waited = ran + int(words[0]), waited + int(words[1])
    except (OSError, ValueError, IndexError):
        return None
    return (ran, waited) if ran else None
