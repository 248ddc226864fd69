"""The meter of one rank: reads its devices every few seconds in the background and writes each reading to disk.

`energy-<host>.jsonl` is shared by the ranks of a host; every line is one synced append, so a killed process loses what
it spent since its last reading and nothing else. Totals are `trainer.books.energy`'s fold over all hosts' files, which
the first rank keeps up to date. The training thread only sets two variables.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainer.books.energy import EnergyFold
from trainer.books.records import STEP_PHASES
from trainer.config import Config
from trainer.meter import process
from trainer.meter.amd import amd
from trainer.meter.busy import BusyThreads, StatedWatts, sole_use
from trainer.meter.instrument import Instrument
from trainer.meter.nvml import Gpu, nvidia
from trainer.meter.process import Earlier
from trainer.meter.rapl import Host, host_counters
from trainer.meter.suspension import Suspension

# The loop's fine phases of a step are one phase of the energy books.
_PHASES = dict.fromkeys(STEP_PHASES, "train")


def boot_id() -> str:
    """Names this boot of this host: counters and monotonic clocks mean nothing beyond it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()}-{uuid.getnode():x}"


def instruments(
    config: Config, local_rank: int, segment: str, gpu: Gpu | None, host: Host | None = None
) -> list[Instrument]:
    """This rank's GPU if it drives one; the host's processor counters for the first rank of the host, or else this
    process's CPU time as an estimate. host: its counters, where they were looked for before."""
    found = [] if gpu is None else [gpu_instrument(gpu)]
    if any(one.description.component == "module" for one in found):
        return found  # its counter contains the processor
    host = host or host_counters()
    if host.found:
        return found + (_with_stated_memory(host.found, config.meter.memory_watts) if local_rank == 0 else [])
    return [*found, *estimates(config, local_rank, segment, host.why)]


def _with_stated_memory(found: list[Instrument], watts: float | None) -> list[Instrument]:
    """What is stated of a host's memory in place of a counter that it does not have."""
    if watts is None or any(
        (one.description.component, one.description.provenance) == ("dram", "measured") for one in found
    ):
        return found
    return [*(one for one in found if one.description.component != "dram"), StatedWatts("host-dram", "dram", watts)]


def gpu_instrument(gpu: Gpu) -> Instrument:
    first = nvidia(gpu)
    if first.description.method == "not measured" and gpu.pci:
        second = amd(gpu)
        return first if second.description.method == "not measured" else second
    return first


def estimates(config: Config, local_rank: int, segment: str, why: str) -> list[Instrument]:
    """Where no counter is: this process's CPU time, and for the first rank of a host what is stated of it."""
    meter, said = config.meter, f"processors are estimated: {why}" if local_rank == 0 else ""
    busy = BusyThreads(f"process-{segment}", meter.thread_watts_low, meter.thread_watts_high, note=said)
    return [busy, *(sole_use(meter) if local_rank == 0 else [])]


class Meter:
    """Start it, tell it of phases and steps, ask it for joules, close it. None of this raises or waits for a disk."""

    def __init__(
        self,
        config: Config,
        run: Path,
        *,
        rank: int = 0,
        local_rank: int = 0,
        world_size: int = 1,
        attempt: int = 0,
        step: int = 0,
        gpu: Gpu | None = None,
        found: list[Instrument] | None = None,
        clock: Callable[[], float] = time.monotonic,
        file: Path | None = None,
        phase: str = "start",
    ) -> None:
        """`step` is the number of steps that were already finished when this attempt began, `phase` the first one;
        `found` and `clock` stand in for this host's instruments and clock, `file` for its file in the run's folder."""
        self.segment = uuid.uuid4().hex[:12]
        self._every, self._clock = config.meter.every_seconds, clock
        self._begun = process.claim() if found is None else None
        before = self._begun.host if self._begun else None
        self._found = instruments(config, local_rank, self.segment, gpu, before) if found is None else found
        self._run = run
        host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname()) or "host"
        self._file = file or run / f"energy-{host}.jsonl"
        self.suspension, self._suspended = Suspension(), 0.0
        self._who = {"rank": rank, "world_size": world_size, "attempt": attempt}
        self._step, self._phase, self._count = step, phase, 0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._fold = EnergyFold()
        self._offsets: dict[Path, int] = {}
        self.joules: dict[str, float | None] = {}  # as `read` tells them
        self.timeline: dict[int, float] = {}  # where the site has a curve: joules by when, as EnergyFold.timeline
        self._timed = config.site.curve is not None
        self._watch = rank == 0 and file is None
        self._closed = self._warned = self._paused = False
        self._read_at = clock()

    def start(self, before: Sequence[Earlier] = (), **about: Any) -> None:
        """Write the opening line with the first reading, and begin to read in the background. before: readings of
        earlier times, in order; about: what else the opening line is to say."""
        with self._lock:
            earlier = [*self._before_opening(), *before]
            line = {"kind": "open", "segment": self.segment, "boot": boot_id(), **self._who, "step": self._step}
            line |= {"devices": [one.description.to_json() for one in self._found], **about}
            self.write(line | (_values_of(earlier[0]) if earlier else self._values()))
            for one in earlier[1:]:
                self.write(self._head(one.phase) | _values_of(one))
            if earlier:
                self.write(self._head(self._phase) | self._values())
            self._follow()
        self.suspension.start()
        self._thread = threading.Thread(target=self._run_in_background, name="meter", daemon=True)
        self._thread.start()

    def values_at(self, when: float, cpu_seconds: float) -> list[float | None]:
        """What is known of the instruments at an earlier time, at which this process had spent so much CPU time."""
        return [
            one.at(when, cpu_seconds) if isinstance(one, BusyThreads | StatedWatts) else None for one in self._found
        ]

    def _before_opening(self) -> list[Earlier]:
        """What is known of this process's time before: from its start, and of the host from its first reading."""
        if self._begun is None:
            return []
        started, cpu, read, host, readings = self._begun
        found = [Earlier(started, self._phase, self.values_at(started, cpu), cpu)]
        if host and readings:
            known = {id(one): reading.joules for one, reading in zip(host.found, readings, strict=True)}
            found.append(Earlier(read, self._phase, [known.get(id(one)) for one in self._found]))
        return found

    def move(self, file: Path) -> None:
        """Its file is called so from now on. Raises OSError."""
        with self._lock:
            self._file.replace(file)
            self._file = file

    def pause(self) -> None:
        """Somebody else meters this process from now on."""
        self.take()
        with self._lock:
            if not self._closed and not self._paused:
                self._paused = True
                self.write(self._head(self._phase) | self._nothing(self._read_at))

    def resume(self) -> None:
        """This meter reads again."""
        with self._lock:
            self._paused = False
        self.take()

    def phase(self, name: str) -> None:
        """From now on energy belongs to `name`. Phases within a training step are all `train`."""
        name = _PHASES.get(name, name)
        if name != self._phase:
            self.take()
            self._phase = name

    def read(self, step: int) -> dict[str, float | None]:
        """Joules by component since the run began, all hosts and attempts, as of the last reading (at most
        `meter.every_seconds` old); empty on ranks other than the first. `step` steps are finished now."""
        self._step = step
        return self.joules

    def take(self, *, last: bool = False) -> None:
        """Take a reading now and write it."""
        with self._lock:
            if self._closed or (self._paused and not last):
                return
            line = self._head(self._phase) | (self._nothing(self._clock()) if self._paused else self._values())
            if last:
                line["last"] = self._closed = True
            self.write(line)
            self._follow()

    def close(self) -> None:
        """Take the last reading and stop. A second call does nothing."""
        self._stop.set()
        self.suspension.stop()
        if self._thread is not None:
            self._thread.join(timeout=10)
            self.take(last=True)
            self._thread = None

    def _run_in_background(self) -> None:
        while not self._stop.wait(self._every):
            self.take()

    def _head(self, phase: str) -> dict[str, Any]:
        """How the line of the next reading begins."""
        self._count += 1
        return {"kind": "reading", "segment": self.segment, "n": self._count, "step": self._step, "phase": phase}

    def _nothing(self, now: float) -> dict[str, Any]:
        """The part of a line of a meter that rests."""
        return _values_of(Earlier(now, "", [None] * len(self._found))) | {"paused": True}

    def _values(self) -> dict[str, Any]:
        now = self._read_at = self._clock()
        readings = [one.read(now) for one in self._found]
        line: dict[str, Any] = {"monotonic": round(now, 6), "time": round(time.time(), 3)}
        line["values"] = [None if one.joules is None else round(one.joules, 6) for one in readings]
        said: dict[str, Any] = {"gaps": {str(i): one.gap for i, one in enumerate(readings) if one.gap}}
        said["others"] = {str(i): one.others for i, one in enumerate(readings) if one.others}
        said["cpu"] = round(time.process_time(), 3)
        if any((one.description.component, one.description.provenance) == ("cpu", "measured") for one in self._found):
            said["host_cpu"] = process.host_busy_seconds()
        suspended, before = self.suspension.seconds(), self._suspended
        self._suspended = suspended
        said["suspended"] = round(suspended - before, 3)
        return line | {name: value for name, value in said.items() if value}

    def write(self, line: dict[str, Any]) -> None:
        """One append, synced. A reading that cannot be written is missing from the books, and that is said once."""
        text = json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n"
        try:
            if line["kind"] == "open" and _torn(self._file):
                text = "\n" + text  # a killed process left half a line
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(descriptor, text.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._warned:
                self._warned = True
                print(f"isoflop: {self._file}: energy readings are lost: {error.strerror}", file=sys.stderr)

    def _follow(self) -> None:
        """Fold what all hosts have written since the last time."""
        if not self._watch:
            return
        for file in self._run.glob("energy-*.jsonl"):
            try:
                with open(file, "rb") as stream:
                    stream.seek(self._offsets.get(file, 0))
                    text = stream.read()
            except OSError:
                continue
            whole = text.rfind(b"\n") + 1
            self._offsets[file] = self._offsets.get(file, 0) + whole
            for raw in text[:whole].splitlines():
                try:
                    line = json.loads(raw)
                except ValueError:
                    continue
                if isinstance(line, dict):
                    self._fold.feed(line)
        self.joules = self._fold.joules()
        if self._timed:
            self.timeline = self._fold.timeline()


def _values_of(one: Earlier) -> dict[str, Any]:
    """The part of a line that holds values of another time."""
    wall = time.time() - (time.monotonic() - one.monotonic)
    said = {} if one.cpu is None else {"cpu": one.cpu}
    return {"monotonic": round(one.monotonic, 6), "time": round(wall, 3), "values": one.values, **said}


def _torn(file: Path) -> bool:
    try:
        with open(file, "rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) != b"\n"
    except OSError:  # none, or empty
        return False
