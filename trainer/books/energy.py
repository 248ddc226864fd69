"""Energy of a run: a fold over the readings in `energy-<host>.jsonl`.

A *segment* is one process that reads its devices' counters; it opens with a line that describes them and then writes
one line a reading. Folding the same line twice changes nothing, a torn line is no line, and segments of a killed
process count as far as they were written.

A device is known by (boot, key). Where two segments read the same device at the same time (two ranks on one GPU, two
processes in one folder), what both saw counts once: exactly, in the space of the counter's own values, or by time
where the instrument has no absolute counter.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.books.curve import BUCKET
from trainer.books.energy_account import NOT_MEASURED, EnergyAccount, Taken, components
from trainer.books.quantity import Provenance
from trainer.books.records import read_lines

Interval = tuple[float, float]
# Counters that hold what is otherwise estimated or stated, by component.
_RIVALS = {"cpu": ("cpu", "module"), "idle": ("cpu", "module"), "dram": ("dram", "module")}
OTHERS_ARE_MUCH = 0.05  # share of a host's busy processor time from which on it is said that others had it


@dataclass
class _Cover:
    """What one segment has read of a device without a gap: a stretch of time and of counter values."""

    times: Interval
    values: Interval


@dataclass
class _Device:
    """One segment's view of one device."""

    key: tuple[str, str]
    component: str
    method: str
    provenance: Provenance
    low: float  # factors on the value
    high: float
    absolute: bool
    note: str
    covers: list[_Cover] = field(default_factory=list)
    joules: float = 0.0
    seconds: float = 0.0  # without a gap
    first: float | None = None  # when it was read first
    others: int = 0  # processes beside the one that reads which used it, at most
    last: tuple[float, float] | None = None  # monotonic time, counter value
    timeline: dict[int, float] = field(default_factory=lambda: defaultdict(float))  # joules by bucket of UTC time


@dataclass
class _Segment:
    """One process of one attempt."""

    rank: int
    world_size: int
    attempt: int
    first_step: int
    devices: list[_Device]
    seen: set[int] = field(default_factory=set)
    start: float = 0.0
    end: float = 0.0
    points: list[tuple[int, float]] = field(default_factory=list)  # after (step): joules of this segment so far
    phases: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gaps: list[str] = field(default_factory=list)
    rested: float = 0.0  # seconds in which another meter read for it
    resting: float | None = None  # since when it does
    closed: bool = False  # whether the process could write a last reading
    cpu: list[float] = field(default_factory=list)  # first and last processor seconds of the process
    host_cpu: list[float] = field(default_factory=list)  # of all that ran on its host

    @property
    def joules(self) -> float:
        return sum(device.joules for device in self.devices)


class EnergyFold:
    """Totals so far; `feed` takes one line at a time, in any order of files."""

    def __init__(self) -> None:
        self.segments: dict[str, _Segment] = {}
        self._by_device: dict[tuple[str, str], list[_Device]] = defaultdict(list)

    def feed(self, line: dict[str, Any]) -> None:
        """Take one line into account. Lines that are not understood, or come a second time, change nothing."""
        try:
            if line["kind"] == "open" and line["segment"] not in self.segments:
                self._open(line)
            elif line["kind"] == "reading" and line["segment"] in self.segments:
                self._reading(self.segments[line["segment"]], line)
        except (KeyError, TypeError, ValueError, IndexError):
            return

    def _open(self, line: dict[str, Any]) -> None:
        devices = [
            _Device(
                (str(line["boot"]), str(item["key"])),
                str(item["component"]),
                str(item["method"]),
                item["provenance"],
                float(item.get("low", 1.0)),
                float(item.get("high", 1.0)),
                bool(item.get("absolute", False)),
                str(item.get("note", "")),
            )
            for item in line["devices"]
        ]
        segment = _Segment(int(line["rank"]), int(line["world_size"]), int(line["attempt"]), int(line["step"]), devices)
        segment.start = segment.end = float(line["monotonic"])
        self.segments[line["segment"]] = segment
        for device in devices:
            self._by_device[device.key].append(device)
        self._advance(segment, line)

    def _reading(self, segment: _Segment, line: dict[str, Any]) -> None:
        if line["n"] in segment.seen:
            return
        segment.seen.add(int(line["n"]))
        before, then = segment.joules, segment.end
        self._advance(segment, line)
        spent, passed = segment.joules - before, segment.end - then
        stopped = min(1.0, float(line.get("suspended") or 0.0) / passed) if passed > 0 else 0.0
        segment.phases[str(line["phase"])] += spent * (1 - stopped)
        if stopped:
            segment.phases["idle"] += spent * stopped
        segment.points.append((int(line["step"]), segment.joules))
        segment.closed = segment.closed or bool(line.get("last"))

    def _advance(self, segment: _Segment, line: dict[str, Any]) -> None:
        now = float(line["monotonic"])
        segment.end = max(segment.end, now)
        gaps, others = line.get("gaps") or {}, line.get("others") or {}
        if segment.resting is not None:
            segment.rested, segment.resting = segment.rested + now - segment.resting, None
        if line.get("paused"):
            segment.resting = now
        for known, name in ((segment.cpu, "cpu"), (segment.host_cpu, "host_cpu")):
            if line.get(name) is not None:
                known[1:] = [float(line[name])] if known else []
                known[:1] = known[:1] or [float(line[name])]
        for i, value in enumerate(line["values"]):
            device = segment.devices[i]
            if str(i) in gaps:
                segment.gaps.append(f"{device.key[1]}: {gaps[str(i)]}")
            if value is None:
                device.last = None
                continue
            value = float(value)
            device.first = now if device.first is None else device.first
            device.others = max(device.others, int(others.get(str(i), 0)))
            if device.last is not None and str(i) not in gaps and value >= device.last[1] and now >= device.last[0]:
                then, earlier = device.last
                new = self._new_joules(device, (then, now), (earlier, value))
                device.joules += new
                _spread(device.timeline, new, float(line.get("time") or 0.0), now - then)
                device.seconds += now - then
                cover = device.covers[-1]
                cover.times, cover.values = (cover.times[0], now), (cover.values[0], value)
            else:
                device.covers.append(_Cover((now, now), (value, value)))
            device.last = (now, value)

    def _new_joules(self, device: _Device, times: Interval, values: Interval) -> float:
        """The part of an interval that no other segment has counted yet."""
        others = [
            cover
            for other in self._by_device[device.key]
            if other is not device
            for cover in other.covers
            if cover.times[0] < times[1] and cover.times[1] > times[0]
        ]
        if not others:
            return values[1] - values[0]
        if device.absolute:
            return _outside(values, [cover.values for cover in others])
        share = _outside(times, [cover.times for cover in others]) / (times[1] - times[0])
        return (values[1] - values[0]) * share

    # --- what the lines say ---

    def timeline(self) -> dict[int, float]:
        """Joules of all components by when they were used: seconds since the epoch // BUCKET."""
        total: dict[int, float] = defaultdict(float)
        for devices in self._by_device.values():
            for device in devices:
                if self._counts(device):
                    for bucket, joules in device.timeline.items():
                        total[bucket] += joules
        return dict(total)

    def joules(self) -> dict[str, float | None]:
        """By component since the run began; None for a component that could not be measured."""
        total: dict[str, float | None] = {}
        for segment in self.segments.values():
            for device in segment.devices:
                so_far = total.get(device.component)
                if device.method == NOT_MEASURED and not device.seconds:
                    total.setdefault(device.component, None)
                elif self._counts(device):
                    total[device.component] = (so_far or 0.0) + device.joules
        return total

    def _counts(self, device: _Device) -> bool:
        """What is estimated or stated of a host's processors and memory gives way to its counters."""
        if device.provenance not in ("estimated", "stated") or device.component not in _RIVALS:
            return True
        return not any(
            other.component in _RIVALS[device.component] and other.provenance == "measured" and other.joules > 0
            for (boot, _), others in self._by_device.items()
            if boot == device.key[0]
            for other in others
        )

    def account(self) -> EnergyAccount:
        """Everything that the readings say."""
        phases: dict[str, float] = defaultdict(float)
        killed = sum(not segment.closed for segment in self.segments.values())
        counted = [device for devices in self._by_device.values() for device in devices if self._counts(device)]
        notes = [device.note for device in counted if device.note]
        if killed:
            notes.append(f"{killed} of {len(self.segments)} processes ended (or go on) after their last reading")
        for segment in self.segments.values():
            for name, joules in segment.phases.items():
                phases[name] += joules
        taken = [self._taken(segment, device) for segment in self.segments.values() for device in segment.devices]
        quantities, coverage, said = components([one for one in taken if one is not None])
        return EnergyAccount(
            components=quantities,
            coverage=coverage,
            phases=dict(phases),
            wasted=self._wasted(),
            shared_devices=sum(_overlap(devices) for devices in self._by_device.values()),
            gaps=tuple(gap for segment in self.segments.values() for gap in segment.gaps),
            notes=tuple(dict.fromkeys([*notes, *said])),
            rank_coverage=self._rank_coverage(),
            segments={name: segment.joules for name, segment in self.segments.items()},
            cpu_seconds=sum(segment.cpu[-1] - segment.cpu[0] for segment in self.segments.values() if segment.cpu),
            timeline=self.timeline(),
        )

    def _taken(self, segment: _Segment, device: _Device) -> Taken | None:
        """What one process read of one device; None where another source stands for it."""
        if not self._counts(device):
            return None
        ours = len(self._by_device[device.key]) - 1
        share, why = 1.0, ""
        if device.component in ("gpu", "module") and device.others > ours:
            share, why = 0.0, f"{device.key[1]}: {device.others - ours} other process(es) computed on it"
        elif device.component == "cpu" and device.provenance == "measured":
            share = self._own_share(device.key[0])
            if share < 1 - OTHERS_ARE_MUCH:
                why = f"{1 - share:.0%} of the processors' busy time was of other processes"
            else:
                share = 1.0
        low = device.low * share
        asked = max(0.0, segment.end - (segment.start if device.first is None else device.first) - segment.rested)
        return Taken(
            device.component,
            device.method,
            device.provenance,
            device.key[1],
            device.joules,
            low,
            device.high,
            device.seconds,
            asked,
            why,
        )

    def _own_share(self, boot: str) -> float:
        """Of the busy processor time of a host while its counters were read; 1 where nobody said."""
        here = [one for one in self.segments.values() if one.devices and one.devices[0].key[0] == boot]
        host = sum(one.host_cpu[-1] - one.host_cpu[0] for one in here if one.host_cpu)
        ours = sum(one.cpu[-1] - one.cpu[0] for one in here if one.cpu)
        return min(1.0, ours / host) if host > 0 else 1.0

    def _rank_coverage(self) -> float:
        """Share of the ranks that wrote readings, the worst of all attempts."""
        ranks: dict[int, set[int]] = defaultdict(set)
        sizes: dict[int, int] = defaultdict(int)
        for segment in self.segments.values():
            ranks[segment.attempt].add(segment.rank)
            sizes[segment.attempt] = max(sizes[segment.attempt], segment.world_size)
        return min((len(ranks[attempt]) / max(sizes[attempt], 1) for attempt in ranks), default=0.0)

    def _wasted(self) -> float:
        """Joules of steps that a later attempt trained again, interpolated between readings."""
        wasted = 0.0
        for segment in self.segments.values():
            later = [other.first_step for other in self.segments.values() if other.attempt > segment.attempt]
            if later:
                wasted += _beyond(segment, min(later))
        return wasted


def _beyond(segment: _Segment, step: int) -> float:
    """Joules that a segment spent after `step` was finished."""
    earlier_step, earlier = segment.first_step, 0.0
    for reached, joules in segment.points:
        if reached > step:
            share = (step - earlier_step) / (reached - earlier_step) if reached > earlier_step else 0.0
            kept = earlier + max(0.0, min(1.0, share)) * (joules - earlier)
            return segment.joules - kept
        earlier_step, earlier = reached, joules
    return 0.0


def _spread(timeline: dict[int, float], joules: float, end: float, seconds: float) -> None:
    """Add joules that were used evenly in the seconds before `end`, UTC, to the buckets that these lie in."""
    if seconds <= 0:
        timeline[math.floor(end / BUCKET)] += joules
        return
    begin = end - seconds
    for at in range(math.floor(begin / BUCKET), math.ceil(end / BUCKET)):
        inside = min(end, (at + 1) * BUCKET) - max(begin, at * BUCKET)
        timeline[at] += joules * inside / seconds


def _overlap(devices: list[_Device]) -> bool:
    """Whether several processes read a device at the same time."""
    return any(
        a.times[0] < b.times[1] and b.times[0] < a.times[1]
        for i, one in enumerate(devices)
        for other in devices[i + 1 :]
        for a in one.covers
        for b in other.covers
    )


def _outside(interval: Interval, covered: list[Interval]) -> float:
    """Length of an interval outside the union of others."""
    length, position = 0.0, interval[0]
    for low, high in sorted(covered):
        if low > position:
            length += max(0.0, min(low, interval[1]) - position)
        position = max(position, high)
        if position >= interval[1]:
            return length
    return length + interval[1] - position


def fold(lines: Iterable[dict[str, Any]]) -> EnergyFold:
    """Fold lines that are in memory."""
    state = EnergyFold()
    for line in lines:
        state.feed(line)
    return state


def read_energy(run: Path) -> EnergyAccount:
    """The energy of a run, from all hosts' files in its folder."""
    return fold(line for file in sorted(run.glob("energy-*.jsonl")) for line in read_lines(file)).account()
