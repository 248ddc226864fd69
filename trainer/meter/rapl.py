"""Processors and memory through Linux's powercap files (RAPL). One reader per host: the counters are the host's.

Readable only for root on most systems (CVE-2020-8694). The counters wrap, so they are read at least every minute. A
`psys` zone contains the packages and is never added to them.
"""

from __future__ import annotations

from pathlib import Path

from trainer.meter.instrument import Description, Instrument, Reading

POWERCAP = Path("/sys/class/powercap")


def processors(powercap: Path = POWERCAP) -> list[Instrument]:
    """One instrument per package and per memory zone that can be read; none on most virtual machines."""
    found: list[Instrument] = []
    for zone in sorted(powercap.glob("*-rapl:*")):
        name = _read(zone / "name") or ""
        if name.startswith("package"):
            found += _zone(zone, "cpu")
        elif name == "dram":
            found += _zone(zone, "dram")
    return found


def _zone(zone: Path, component: str) -> list[Instrument]:
    value, limit = _number(zone / "energy_uj"), _number(zone / "max_energy_range_uj")
    return [] if value is None else [_Counter(zone, component, limit)]


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _read(path)
    return int(text) if text and text.isdigit() else None


class _Counter:
    def __init__(self, zone: Path, component: str, range_uj: int | None) -> None:
        self.description = Description(zone.name, component, "RAPL energy counter", "measured")
        self._file, self._range = zone / "energy_uj", range_uj
        self._last: int | None = None
        self._when = 0.0
        self._sum_uj = 0

    def read(self, now: float) -> Reading:
        value = _number(self._file)
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
            self._sum_uj += spent
        return Reading(self._sum_uj / 1e6, gap)
