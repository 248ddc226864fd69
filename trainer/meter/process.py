"""What a process spends before its meter opens: it is known from the process's start, whenever somebody asks.

A rank imports its libraries, reads its data and builds its model before it knows what to meter. The system counts its
processor time meanwhile; the host's counters are read first thing, by `begin`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trainer.meter.instrument import Reading
from trainer.meter.rapl import Host, host_counters

STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq and softirq of its columns


class Earlier(NamedTuple):
    """Readings of an earlier time: values by the order of the instruments, None where one was not read then."""

    monotonic: float
    phase: str
    values: list[float | None]
    cpu: float | None = None  # processor seconds of this process by then


class Begun(NamedTuple):
    """A process that is metered from its start on, or from when it took up one thing."""

    started: float  # monotonic seconds
    cpu: float  # processor seconds by then
    read: float  # when the host's counters were read first
    host: Host | None
    readings: list[Reading]


_begun: Begun | None = None


def begin(*, reads_host: bool, whole: bool = True, counters: Callable[[], Host] = host_counters) -> None:
    """This process does one thing from now on, or from its start where it does nothing else: `whole`. reads_host: and
    reads its host's counters."""
    global _begun
    since = (started(), 0.0) if whole else (time.monotonic(), time.process_time())
    host = counters() if reads_host else None
    now = time.monotonic()
    _begun = Begun(*since, now, host, [one.read(now) for one in host.found] if host else [])


def claim() -> Begun | None:
    """What `begin` found, once: whoever asks first books it."""
    global _begun
    found, _begun = _begun, None
    return found


def started() -> float:
    """Monotonic time of this process's start; now where the system does not tell."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # since the host's boot
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic()
    return time.monotonic() - max(0.0, age)


def host_busy_seconds() -> float | None:
    """Processor seconds of all that ran on this host since its boot; None where the system does not tell."""
    try:
        columns = STAT.read_text().split("\n", 1)[0].split()[1:]
        return sum(int(columns[at]) for at in _BUSY) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
