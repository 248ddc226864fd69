"""What the meter knows of an instrument: a device it belongs to, and a value in joules that only grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from trainer.books.quantity import Provenance


@dataclass(frozen=True)
class Description:
    """One device as a segment's first line describes it."""

    key: str  # with the boot id: which device this is, whatever its index
    component: str  # gpu, cpu, dram, module
    method: str
    provenance: Provenance
    absolute: bool = False  # whether other processes read the same values of the same device
    low: float = 1.0  # factors on the value that bound it
    high: float = 1.0
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value != ""}


class Reading(NamedTuple):
    """A counter's value in joules, or None where it cannot be read now; `gap` says why the time since the last reading
    is not covered."""

    joules: float | None
    gap: str = ""
    others: int = 0  # processes beside this one that use the device now


class Instrument(Protocol):
    """Something that reads one device."""

    description: Description

    def read(self, now: float) -> Reading:
        """The value at `now` (monotonic seconds). Never raises."""
        ...


class Plausible:
    """Watches a counter for what cannot be: falling, standing still, or more power than the board can draw."""

    def __init__(self, limit_watts: float | None) -> None:
        self.limit_watts = limit_watts
        self.last: tuple[float, float] | None = None

    def check(self, now: float, joules: float | None) -> Reading:
        last, self.last = self.last, (now, joules) if joules is not None else None
        if joules is None:
            return Reading(None, "the counter could not be read")
        if last is None or now <= last[0]:
            return Reading(joules)
        seconds, spent = now - last[0], joules - last[1]
        if spent < 0:
            return Reading(joules, "the counter fell: a driver was loaded anew")
        if spent == 0 and seconds >= 1:
            return Reading(joules, "the counter stood still")
        if self.limit_watts and seconds >= 0.5 and spent > 1.5 * self.limit_watts * seconds:
            return Reading(
                joules, f"the counter jumped: {spent / seconds:.0f} W on a board of {self.limit_watts:.0f} W"
            )
        return Reading(joules)


class NotMeasured:
    """A device whose power cannot be read; its energy is None."""

    def __init__(self, key: str, component: str, why: str) -> None:
        self.description = Description(key, component, "not measured", "not stated", note=f"{key}: {why}")

    def read(self, now: float) -> Reading:
        return Reading(None)
