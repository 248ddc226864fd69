"""Processors and memory through Linux's powercap files (RAPL). One reader per host: the counters are the host's.

Readable only for root on most systems (CVE-2020-8694). The counters wrap, so they are read at least every minute. A
`psys` zone contains the packages and is never added to them; `intel-rapl-mmio` is another way to the same package
counters and is read where it is the only one. Virtual machines may show zones whose counters stand still.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trainer.meter.instrument import Description, Instrument, NotMeasured, Reading

POWERCAP = Path("/sys/class/powercap")
MMIO = "intel-rapl-mmio"
STILL_SECONDS = 0.05  # a counter of a running host is renewed every millisecond


class Host(NamedTuple):
    """What a host's counters are: those that can be read, and why others cannot."""

    found: list[Instrument]
    why: str  # why its processors are not measured; empty where they are


def host_counters(powercap: Path = POWERCAP, sleep: Callable[[float], None] = time.sleep) -> Host:
    """The counters of a host's packages and memory. Packages without a memory zone come with one that says that the
    memory is not measured; counters that cannot be read or stand still are none."""
    zones = [(zone, _read(zone / "name") or "") for zone in sorted(powercap.glob("*rapl*:*"))]
    alone = all(zone.name.startswith(MMIO) for zone, name in zones if name.startswith("package"))
    zones = [(zone, name) for zone, name in zones if alone or not zone.name.startswith(MMIO)]
    packages = [_Counter(zone, "cpu") for zone, name in zones if name.startswith("package")]
    memories = [_Counter(zone, "dram") for zone, name in zones if name == "dram"]
    if not packages:
        return Host([], "no RAPL counter")
    if any(one.microjoules() is None for one in packages):
        return Host([], "RAPL cannot be read (its files are root's on most systems)")
    before = [one.microjoules() for one in packages]
    sleep(STILL_SECONDS)
    if any(one.microjoules() == was for one, was in zip(packages, before, strict=True)):
        return Host([], "RAPL's counter stands still, as in virtual machines")
    readable = [one for one in memories if one.microjoules() is not None]
    found: list[Instrument] = [*packages, *readable]
    if not readable:
        found.append(NotMeasured("memory", "dram", "RAPL has no zone of it here"))
    return Host(found, "")


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _read(path)
    return int(text) if text and text.isdigit() else None


class _Counter:
    def __init__(self, zone: Path, component: str) -> None:
        alone = zone.name.startswith(MMIO)
        note = f"{zone.name}: read where no other RAPL is; it has packages alone" if alone else ""
        self.description = Description(zone.name, component, "RAPL energy counter", "measured", note=note)
        self._file, self._range = zone / "energy_uj", _number(zone / "max_energy_range_uj")
        self._last: int | None = None
        self._when = 0.0
        self._sum_uj = 0

    def microjoules(self) -> int | None:
        return _number(self._file)

    def read(self, now: float) -> Reading:
        value = self.microjoules()
        last, self._last = self._last, value
        when, self._when = self._when, now
        if value is None:
            return Reading(None, "the counter could not be read")
        gap = ""
        if last is not None:
            spent = value - last
            if spent < 0 and self._range is not None:
                spent += self._range  # it wrapped
            if spent < 0 or now - when > 90:
                # A fall without a known range, or a pause in which it may have wrapped more than once.
                spent, gap = 0, "the counter may have wrapped unseen"
            elif spent == 0 and now - when >= 1:
                gap = "the counter stood still"
            self._sum_uj += spent
        return Reading(self._sum_uj / 1e6, gap)
