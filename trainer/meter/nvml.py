"""NVIDIA GPUs: the energy counter of the board (Volta and later), else its power integrated over time.

The device is found by UUID or PCI bus id, never by index: CUDA_VISIBLE_DEVICES may reorder, name or hide devices.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any, NamedTuple

from trainer.meter.instrument import Description, Instrument, NotMeasured, Plausible, Reading

MODULE_NAMES = ("GH200", "GB200")  # the counter covers processor and GPU together


class Gpu(NamedTuple):
    """The device that a rank drives, as its framework names it."""

    uuid: str | None = None
    pci: str | None = None


def nvidia(gpu: Gpu, nvml: Any = None) -> Instrument:
    """The instrument of this GPU. Where nothing can be read: one that says so. Never raises."""
    key = gpu.uuid or gpu.pci or "gpu"
    try:
        if nvml is None:
            nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handle = _handle(gpu, nvml)
    except Exception as error:  # no library, no driver, no such device: NVML has an exception for each
        return NotMeasured(key, "gpu", f"NVML: {error}")
    note = ""
    handle, shared = _whole_device(handle, nvml)
    if shared:
        note = "a MIG slice: the whole board is counted, an upper bound"
    key = _text(nvml.nvmlDeviceGetUUID(handle))
    component = "module" if any(name in _text(nvml.nvmlDeviceGetName(handle)) for name in MODULE_NAMES) else "gpu"
    limit = None
    with contextlib.suppress(Exception):
        limit = nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000
    low = 0.0 if shared else 1.0
    for make in (_EnergyCounter, _IntegratedPower):
        instrument = make(
            Description(key, component, make.method, "measured", make.absolute, low, 1.0, note), handle, nvml, limit
        )
        if instrument.works():
            return instrument
    return NotMeasured(key, component, "neither an energy counter nor a power reading")


def _handle(gpu: Gpu, nvml: Any) -> Any:
    errors = []
    if gpu.uuid:
        bare = gpu.uuid.removeprefix("GPU-").removeprefix("MIG-")
        for name in (f"GPU-{bare}", f"MIG-{bare}"):
            try:
                return nvml.nvmlDeviceGetHandleByUUID(name)
            except Exception as error:
                errors.append(error)
    if gpu.pci:
        return nvml.nvmlDeviceGetHandleByPciBusId(gpu.pci)
    raise errors[0] if errors else LookupError("the GPU has neither a UUID nor a PCI bus id")


def _whole_device(handle: Any, nvml: Any) -> tuple[Any, bool]:
    """The board of a MIG slice, and whether the board is divided."""
    with contextlib.suppress(Exception):
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle), True
    with contextlib.suppress(Exception):
        return handle, nvml.nvmlDeviceGetMigMode(handle)[0] == 1
    return handle, False


def _others(handle: Any, nvml: Any) -> int:
    """How many processes compute on the device beside this one, which does; 0 where the driver does not tell."""
    with contextlib.suppress(Exception):
        return max(0, len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)) - 1)
    return 0


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _EnergyCounter:
    method = "NVML energy counter"
    absolute = True

    def __init__(self, description: Description, handle: Any, nvml: Any, limit: float | None) -> None:
        self.description, self._handle, self._nvml, self._plausible = description, handle, nvml, Plausible(limit)

    def works(self) -> bool:
        return self._joules() is not None

    def _joules(self) -> float | None:
        try:
            millijoules = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except Exception:
            return None
        return millijoules / 1000 if millijoules else None

    def read(self, now: float) -> Reading:
        return self._plausible.check(now, self._joules())._replace(others=_others(self._handle, self._nvml))


class _IntegratedPower:
    """Trapezoids between readings: as good as the power is steady."""

    method = "NVML power integrated over time"
    absolute = False

    def __init__(self, description: Description, handle: Any, nvml: Any, limit: float | None) -> None:
        self.description, self._handle, self._nvml = description, handle, nvml
        self._sum = 0.0
        self._last: tuple[float, float] | None = None

    def works(self) -> bool:
        return self._watts() is not None

    def _watts(self) -> float | None:
        try:
            return self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000
        except Exception:
            return None

    def read(self, now: float) -> Reading:
        watts = self._watts()
        last, self._last = self._last, (now, watts) if watts is not None else None
        if watts is None:
            return Reading(None, "the power could not be read")
        if last is not None:
            self._sum += (watts + last[1]) / 2 * (now - last[0])
        return Reading(self._sum, others=_others(self._handle, self._nvml))
