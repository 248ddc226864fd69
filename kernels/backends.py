"""Which backends can run where, and the one line of log when `auto` chooses."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import logging
import os
import re

import torch

from kernels import choice
from kernels.configs import chip
from kernels.errors import KernelInputError, refuse_name

TRITON_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
OLDEST_TRITON = (3, 6)  # that of torch 2.11
logger = logging.getLogger("kernels")
_logged: set[tuple[str, ...]] = set()


def interpreting() -> bool:
    """Triton's CPU interpreter is on, so that Triton kernels accept CPU tensors (tests only)."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")


def triton_lacks(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why our Triton kernels cannot run on this device in this dtype, or None. Does not import Triton."""
    if dtype not in TRITON_DTYPES:
        return f"its dtypes are bfloat16, float16 and float32, not {dtype}"
    if device.type != "cuda" and not (device.type == "cpu" and interpreting()):
        return f"triton has no kernels for device type {device.type!r}"
    return choice.triton_lacks(chip(device)) or _triton_is_not_here()


@functools.cache  # every call of a kernel asks, and the answer is on the disk
def _triton_is_not_here() -> str | None:
    """Why no Triton that will do is installed, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:  # built from source: not stated
        return None
    numbers = re.findall(r"\d+", version)[:2]
    if tuple(map(int, numbers)) < OLDEST_TRITON:
        return f"triton {version} is installed, and the kernels want {'.'.join(map(str, OLDEST_TRITON))} or later"
    return None


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


def choose(function: str, backend: object, device: torch.device, dtype: torch.dtype) -> str:
    """The backend of a function that all three can serve; auto is triton on a GPU, else torch."""
    asked = check_backend(function, backend, choice.OTHERS)
    lacks = triton_lacks(device, dtype) if asked in ("auto", "triton") else None
    chosen, reason = choice.backend(asked, device.type, lacks)
    if asked == "auto":
        log_choice(function, chosen, device, reason)
    elif lacks:
        raise backend_error(function, asked, lacks, "use backend='auto', 'torch' or 'reference'")
    return chosen


def on_device(tensor: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current GPU: make it that of the tensor."""
    return torch.cuda.device(tensor.device) if tensor.device.type == "cuda" else contextlib.nullcontext()


def autocast_dtype(tensor: torch.Tensor) -> torch.dtype:
    """What autocast makes of a tensor that goes into a product: its dtype where it is on, else the tensor's own. As
    PyTorch's own products, it leaves float64 alone."""
    kind = tensor.device.type
    if tensor.dtype == torch.float64 or not _autocast_on(kind):
        return tensor.dtype
    return torch.get_autocast_dtype(kind)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """For the inside of an operator, whose dtypes are settled: PyTorch's products would cast again there."""
    on = _autocast_on(device.type)
    return torch.autocast(device.type, enabled=False) if on else contextlib.nullcontext()


def _autocast_on(kind: str) -> bool:
    return kind != "meta" and torch.is_autocast_enabled(kind)
