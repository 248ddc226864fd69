"""Whether this host multiplies in 8 bits."""

from __future__ import annotations

import torch

from trainer.config import Config
from trainer.config.host import fp8
from trainer.utils.errors import UserError

OLDEST = (8, 9)  # compute capability, of which torch._scaled_mm takes tensors in fp8: Ada, Hopper and newer


def fp8_here(config: Config, device: torch.device | None = None) -> bool:
    """Whether the run's linear layers multiply in fp8, on this device or on the one that the run is going to take.

    Raises UserError where they should and its device cannot."""
    if not fp8(config):
        return False
    kind = device.type if device is not None else config.engine.device
    if kind == "cpu" or not torch.cuda.is_available():
        return True
    if torch.version.hip:
        raise UserError("engine.linear: fp8 is for NVIDIA's GPUs (sm_89 or newer) and CPUs; take engine.linear=bf16")
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        name, number = torch.cuda.get_device_name(device), "".join(map(str, capability))
        raise UserError(
            f"engine.linear: fp8 needs a GPU of sm_89 or newer (Ada, Hopper, Blackwell), {name} is sm_{number}; "
            "take engine.linear=bf16"
        )
    return True
