"""Where no counter is: the CPU seconds of this process times watts per busy thread. An estimate, labelled so."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import sqrt

from trainer.meter.instrument import Description, Reading


class BusyThreads:
    """Joules of the CPU time of this process (all its threads), at the geometric middle of the assumed watts."""

    def __init__(
        self, key: str, watts_low: float, watts_high: float, cpu_seconds: Callable[[], float] = time.process_time
    ) -> None:
        self._watts, self._cpu_seconds = sqrt(watts_low * watts_high), cpu_seconds
        self.description = Description(
            key,
            "cpu",
            f"busy threads at {watts_low:g} to {watts_high:g} W each",
            "estimated",
            low=watts_low / self._watts,
            high=watts_high / self._watts,
        )

    def read(self, now: float) -> Reading:
        return Reading(self._cpu_seconds() * self._watts)
