"""The lines of `energy-<host>.jsonl` and `cost-<verb>-<time>-<process>.jsonl`, as their JSON Schemas describe them.

`trainer/meter/meter.py` writes them, `trainer/books/energy.py` folds them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from trainer.books.quantity import Provenance
from trainer.meter.instrument import Description


@dataclass(frozen=True)
class EnergyReading:
    """What the devices of one process said at one time. Energy between two readings is the difference of values."""

    segment: str  # the process that reads; its first line has kind open
    n: int  # number of the reading in its segment
    step: int  # optimizer steps that were finished
    phase: str  # what the energy since the reading before was for
    monotonic: float  # seconds of the host's clock since its boot
    time: float  # seconds since the epoch
    values: list[float | None]  # J, of each device in the order of `devices`; null: it could not be read
    gaps: dict[str, str] = field(default_factory=dict)  # by the number of a device, why the time before is not covered
    others: dict[str, int] = field(default_factory=dict)  # by the number of a device, other processes that used it
    cpu: float | None = None  # processor seconds of this process
    host_cpu: float | None = None  # processor seconds of all that ran on the host since its boot
    suspended: float = 0.0  # seconds since the reading before in which the process was stopped
    paused: bool = False  # another meter reads for it until the next line
    last: bool = False  # the process could end its books


@dataclass(frozen=True)
class EnergyOpen:
    """The first line of a process: what it reads, and its first values."""

    segment: str  # names this process in all its lines
    boot: str  # names this boot of its host: counters mean nothing beyond it
    rank: int
    world_size: int  # ranks of the run
    attempt: int  # 0 for the first start of the run
    step: int  # optimizer steps that were finished before
    devices: list[Description]
    monotonic: float  # seconds of the host's clock since its boot
    time: float  # seconds since the epoch
    values: list[float | None]  # J, of each device
    cpu: float | None = None  # processor seconds of this process
    host_cpu: float | None = None  # processor seconds of all that ran on the host since its boot
    suspended: float = 0.0


@dataclass(frozen=True)
class CostOpen(EnergyOpen):
    """The same of a command; the lines of further devices of it have no verb."""

    cost: int = 1  # version of the form
    verb: str | None = None  # of isoflop
    command: list[str] | None = None  # its words, without secrets
    project: str | None = None  # run.project
    stated: dict[str, Any] = field(default_factory=dict)  # keys of site and meter that its configuration stated
    start: str | None = None  # UTC, as 2026-11-30T07:15:02Z


@dataclass(frozen=True)
class CostComponent:
    """What one component took."""

    joules: float | None  # null: not measured
    low: float | None
    high: float | None
    provenance: Provenance
    method: str
    coverage: float  # part of the time that was read


@dataclass(frozen=True)
class CostEnd:
    """The last line of a command, which one that was killed does not have."""

    segment: str
    end: str  # UTC
    seconds: float  # since its start
    outcome: Literal["done", "failed", "stopped"]
    cpu_seconds: float
    components: dict[str, CostComponent]  # gpu, cpu, dram, module, idle
