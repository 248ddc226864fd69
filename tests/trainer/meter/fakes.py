"""An NVML with known power curves, an amdsmi, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


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
