"""Which backends can run where, and the one line of log when `auto` chooses."""

from __future__ import annotations

import importlib.util
import logging
import os

import torch

from kernels.errors import KernelInputError, refuse_name

logger = logging.getLogger("kernels")
_logged: set[tuple[str, ...]] = set()


def interpreting() -> bool:
    """Triton's CPU interpreter is on, so that Triton kernels accept CPU tensors (tests only)."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")


def triton_lacks(device: torch.device) -> str | None:
    """Why Triton cannot run on this device, or None. Does not import it."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device.type == "cuda" or (device.type == "cpu" and interpreting()):
        return None
    return f"triton has no kernels for device type {device.type!r}"


def check_backend(function: str, backend: object, allowed: tuple[str, ...]) -> str:
    if backend not in allowed:
        raise refuse_name(function, "backend", backend, allowed)
    return str(backend)


def backend_error(function: str, backend: str, reason: str, way_out: str) -> KernelInputError:
    return KernelInputError(f"{function}: backend is {backend!r}, but {reason}; {way_out}")


def log_choice(function: str, chosen: str, device: torch.device, reason: str) -> None:
    """Say once, per function, device type and choice, what `auto` chose and why."""
    if torch.compiler.is_compiling():
        return
    key = (function, chosen, device.type, reason)
    if key not in _logged:
        _logged.add(key)
        logger.info("%s on %s: backend %s (%s)", function, device.type, chosen, reason)
