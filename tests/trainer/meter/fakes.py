"""An NVML with known power curves, an amdsmi, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.meter.rapl import host_counters

TICK = 1e-3  # joules by which a counter that runs goes on while it is looked for


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Board:
    """One GPU whose power is `watts(t)`; its energy is the curve's exact integral from 0 to t."""

    uuid: str
    pci: str = ""
    name: str = "NVIDIA A100-SXM4-80GB"
    watts: Callable[[float], float] = lambda t: 200.0
    energy: Callable[[float], float] = lambda t: 200.0 * t
    limit: float = 400.0
    counts: bool = True  # Volta and later
    mig: bool = False
    processes: tuple[int, ...] = (1,)  # that compute on it
    since: float = 0.0  # driver load: the counter is 0 there
    stuck: float | None = None


class NvmlError(Exception):
    pass


@dataclass
class FakeNvml:
    """The functions of pynvml that the meter calls."""

    boards: list[Board]
    clock: Clock
    calls: list[str] = field(default_factory=list)

    def nvmlInit(self):
        if not self.boards:
            raise NvmlError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid):
        for board in self.boards:
            if board.uuid == uuid:
                return board
        raise NvmlError("Not Found")

    def nvmlDeviceGetHandleByPciBusId(self, pci):
        for board in self.boards:
            if board.pci == pci:
                return board
        raise NvmlError("Not Found")

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle):
        raise NvmlError("Invalid Argument")

    def nvmlDeviceGetMigMode(self, board):
        return (int(board.mig), 0)

    def nvmlDeviceGetUUID(self, board):
        return board.uuid.encode()

    def nvmlDeviceGetName(self, board):
        return board.name

    def nvmlDeviceGetPowerManagementLimit(self, board):
        return int(board.limit * 1000)

    def nvmlDeviceGetTotalEnergyConsumption(self, board):
        if not board.counts:
            raise NvmlError("Not Supported")
        if board.stuck is not None:
            return int(board.stuck * 1000)
        return round((board.energy(self.clock.now) - board.energy(board.since)) * 1000)

    def nvmlDeviceGetComputeRunningProcesses(self, board):
        return board.processes

    def nvmlDeviceGetPowerUsage(self, board):
        return int(board.watts(self.clock.now) * 1000)


class FakeAmdSmi:
    """Two dies of one MI250 module: the even one counts for both."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def amdsmi_init(self):
        return None

    def amdsmi_get_processor_handles(self):
        return [0, 1]

    def amdsmi_get_gpu_device_bdf(self, handle):
        return ("0000:C1:00.0", "0000:C6:00.0")[handle]

    def amdsmi_get_energy_count(self, handle):
        ticks = int(500 * self.clock.now * 1e6 / 15.3) if handle == 0 else 0
        return {"energy_accumulator": ticks, "counter_resolution": 15.3, "timestamp": 0}


def zone(root: Path, name: str, label: str, microjoules: int, most: int = 1000_000_000) -> Path:
    """A folder of Linux's powercap files; its path."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(label + "\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def run_on(root: Path) -> None:
    """Every counter goes on by TICK."""
    for file in root.glob("*/energy_uj"):
        if file.is_file():
            file.write_text(str(int(file.read_text()) + round(TICK * 1e6)))


def counters(root: Path) -> list[Any]:
    """The instruments of a host whose counters run."""
    return host_counters(root, lambda seconds: run_on(root)).found
