"""Where no counter is: the CPU seconds of this process times watts per busy thread. An estimate, labelled so.

It is the *marginal* share of a host that is loaded in full: package power over threads. A host that one has alone draws
more, what it draws idle and what its memory draws; both count as well where they are stated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import sqrt

from trainer.config import MeterConfig
from trainer.meter.instrument import Description, Reading


class BusyThreads:
    """Joules of the CPU time of this process (all its threads), at the geometric middle of the assumed watts."""

    def __init__(
        self,
        key: str,
        watts_low: float,
        watts_high: float,
        cpu_seconds: Callable[[], float] = time.process_time,
        note: str = "",
    ) -> None:
        self._watts, self._cpu_seconds = sqrt(watts_low * watts_high), cpu_seconds
        self.description = Description(
            key,
            "cpu",
            f"busy threads at {watts_low:g} to {watts_high:g} W each, a marginal share of the host",
            "estimated",
            low=watts_low / self._watts,
            high=watts_high / self._watts,
            note=note,
        )

    def read(self, now: float) -> Reading:
        return Reading(self.at(now, self._cpu_seconds()))

    def at(self, when: float, cpu_seconds: float) -> float:
        """The value at a time at which the process had spent so much."""
        return cpu_seconds * self._watts


class StatedWatts:
    """Joules of a constant power that somebody stated, over the time of the meter. One reader a host."""

    def __init__(self, key: str, component: str, watts: float) -> None:
        self.description = Description(key, component, f"{watts:g} W stated x time", "stated")
        self._watts = watts

    def read(self, now: float) -> Reading:
        return Reading(self.at(now, 0.0))

    def at(self, when: float, cpu_seconds: float) -> float:
        return self._watts * when


def sole_use(meter: MeterConfig) -> list[StatedWatts]:
    """What a host draws beside its busy threads, as far as it is stated, for a host without counters."""
    stated = {"idle": meter.host_idle_watts, "dram": meter.memory_watts}
    return [StatedWatts(f"host-{name}", name, watts) for name, watts in stated.items() if watts is not None]
