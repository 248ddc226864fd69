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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.books.energy import EnergyFold
from trainer.books.records import STEP_PHASES
from trainer.config import Config
from trainer.meter.amd import amd
from trainer.meter.busy import BusyThreads
from trainer.meter.instrument import Instrument
from trainer.meter.nvml import Gpu, nvidia
from trainer.meter.rapl import processors

# The loop's fine phases of a step are one phase of the energy books.
_PHASES = dict.fromkeys(STEP_PHASES, "train")


def boot_id() -> str:
    """Names this boot of this host: counters and monotonic clocks mean nothing beyond it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()}-{uuid.getnode():x}"


def instruments(config: Config, local_rank: int, segment: str, gpu: Gpu | None) -> list[Instrument]:
    """This rank's GPU if it drives one; the host's processor counters for the first rank of the host, or else this
    process's CPU time as an estimate."""
    found: list[Instrument] = []
    if gpu is not None:
        first = nvidia(gpu)
        if first.description.method == "not measured" and gpu.pci:
            second = amd(gpu)
            first = first if second.description.method == "not measured" else second
        found.append(first)
    if any(one.description.component == "module" for one in found):
        return found  # its counter contains the processor
    counters = processors()
    if any(one.description.component == "cpu" for one in counters):
        return found + (counters if local_rank == 0 else [])
    meter = config.meter
    return [*found, BusyThreads(f"process-{segment}", meter.thread_watts_low, meter.thread_watts_high)]


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
    ) -> None:
        """`step` is the number of steps that were already finished when this attempt began; `found` and `clock` stand
        in for this host's instruments and clock."""
        self.segment = uuid.uuid4().hex[:12]
        self._every, self._clock = config.meter.every_seconds, clock
        self._found = instruments(config, local_rank, self.segment, gpu) if found is None else found
        self._run = run
        host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname()) or "host"
        self._file = run / f"energy-{host}.jsonl"
        self._who = {"rank": rank, "world_size": world_size, "attempt": attempt}
        self._step, self._phase, self._count = step, "start", 0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._fold = EnergyFold()
        self._offsets: dict[Path, int] = {}
        self.joules: dict[str, float | None] = {}  # as `read` tells them
        self.timeline: dict[int, float] = {}  # where the site has a curve: joules by when, as EnergyFold.timeline
        self._timed = config.site.curve is not None
        self._watch = rank == 0
        self._closed = self._warned = False

    def start(self) -> None:
        """Write the opening line with the first reading, and begin to read in the background."""
        with self._lock:
            line = {"kind": "open", "segment": self.segment, "boot": boot_id(), **self._who, "step": self._step}
            line["devices"] = [one.description.to_json() for one in self._found]
            self._write(line | self._values())
            self._follow()
        self._thread = threading.Thread(target=self._run_in_background, name="meter", daemon=True)
        self._thread.start()

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
            if self._closed:
                return
            self._count += 1
            line: dict[str, Any] = {"kind": "reading", "segment": self.segment, "n": self._count}
            line |= {"step": self._step, "phase": self._phase} | self._values()
            if last:
                line["last"] = self._closed = True
            self._write(line)
            self._follow()

    def close(self) -> None:
        """Take the last reading and stop. A second call does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
            self.take(last=True)
            self._thread = None

    def _run_in_background(self) -> None:
        while not self._stop.wait(self._every):
            self.take()

    def _values(self) -> dict[str, Any]:
        now = self._clock()
        readings = [one.read(now) for one in self._found]
        line: dict[str, Any] = {"monotonic": round(now, 6), "time": round(time.time(), 3)}
        line["values"] = [None if one.joules is None else round(one.joules, 6) for one in readings]
        gaps = {str(i): one.gap for i, one in enumerate(readings) if one.gap}
        return line | ({"gaps": gaps} if gaps else {})

    def _write(self, line: dict[str, Any]) -> None:
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


def _torn(file: Path) -> bool:
    try:
        with open(file, "rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) != b"\n"
    except OSError:  # none, or empty
        return False
