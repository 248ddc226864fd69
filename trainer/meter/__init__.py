"""Instruments: what the hardware says it spent, read with care about who reads what."""

from __future__ import annotations

from typing import Any

from trainer.meter.meter import Meter, boot_id
from trainer.meter.nvml import Gpu

__all__ = ["Gpu", "Meter", "boot_id", "gpu_of"]


def gpu_of(device: Any) -> Gpu | None:
    """The identity of a `torch.device`; None for a CPU."""
    if device.type != "cuda":
        return None
    import torch

    properties = torch.cuda.get_device_properties(device)
    uuid = getattr(properties, "uuid", None)
    domain, bus, slot = (getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device"))
    pci = f"{domain or 0:08x}:{bus:02x}:{slot or 0:02x}.0" if bus is not None else None
    return Gpu(str(uuid) if uuid is not None else None, pci)
