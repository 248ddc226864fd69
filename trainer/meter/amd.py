"""AMD GPUs through amdsmi. A two-die module (MI250) counts on its even die for both; the odd one reads 0."""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

from trainer.meter.instrument import Description, Instrument, NotMeasured, Plausible, Reading
from trainer.meter.nvml import Gpu


def amd(gpu: Gpu, smi: Any = None) -> Instrument:
    """The instrument of this GPU, found by PCI bus id. Never raises."""
    key = gpu.pci or gpu.uuid or "gpu"
    try:
        if smi is None:
            # Without ROCm the import raises KeyError and prints.
            with contextlib.redirect_stdout(io.StringIO()):
                smi = importlib.import_module("amdsmi")
        smi.amdsmi_init()
        handles = smi.amdsmi_get_processor_handles()
        addresses = [str(smi.amdsmi_get_gpu_device_bdf(handle)).lower() for handle in handles]
        index = addresses.index(_full(gpu.pci or ""))
    except Exception as error:
        return NotMeasured(key, "gpu", f"amdsmi: {error!r}")
    counter = _Counter(handles[index], addresses[index], smi, "")
    if counter.joules() is None and index > 0:
        note = f"{addresses[index]}: the second die of a module; the first counts for both"
        counter = _Counter(handles[index - 1], addresses[index - 1], smi, note)
    if counter.joules() is None:
        return NotMeasured(key, "gpu", "no energy counter")
    return counter


def _full(pci: str) -> str:
    """A PCI address with its domain in four digits, as amdsmi prints it."""
    domain, _, rest = pci.lower().partition(":")
    if rest.count(":") == 0:
        domain, rest = "0000", pci.lower()
    return f"{domain[-4:]:0>4}:{rest}"


class _Counter:
    def __init__(self, handle: Any, address: str, smi: Any, note: str) -> None:
        self.description = Description(address, "gpu", "amdsmi energy counter", "measured", True, note=note)
        self._handle, self._smi, self._plausible = handle, smi, Plausible(None)

    def joules(self) -> float | None:
        try:
            count = self._smi.amdsmi_get_energy_count(self._handle)
            ticks = count.get("energy_accumulator", count.get("power"))
            return ticks * count["counter_resolution"] / 1e6 or None  # a resolution in microjoules
        except Exception:
            return None

    def read(self, now: float) -> Reading:
        return self._plausible.check(now, self.joules())
