"""Checks of one argument each: in one line what was given and what is wanted."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kernels.errors import refuse

FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def check_float(function: str, argument: str, value: object, device: torch.device | None = None) -> Tensor:
    """A tensor of one of FLOATS, on the device if one is given."""
    tensor = _tensor(function, argument, value, "a floating-point tensor")
    if tensor.dtype not in FLOATS:
        raise refuse(function, argument, tensor.dtype, "bfloat16, float16, float32 or float64")
    return _on(device, function, argument, tensor)


def check_integers(
    function: str,
    argument: str,
    value: object,
    device: torch.device | None = None,
    wanted: str = "a tensor of integers",
) -> Tensor:
    """A tensor of integers, on the device if one is given."""
    tensor = _tensor(function, argument, value, wanted)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise refuse(function, argument, tensor.dtype, wanted)
    return _on(device, function, argument, tensor)


def check_number(
    function: str, argument: str, value: Any, wanted: str, low: float = -math.inf, below: float = math.inf
) -> float:
    """A finite number in [low, below)."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not known or not math.isfinite(value) or not low <= value < below:
        raise refuse(function, argument, repr(value), wanted)
    return float(value)


def check_whole(function: str, argument: str, value: Any, wanted: str, low: float = -math.inf) -> int:
    """An integer from `low` on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise refuse(function, argument, repr(value), wanted)
    return value


def check_flag(function: str, argument: str, value: object) -> None:
    if not isinstance(value, bool):
        raise refuse(function, argument, repr(value), "True or False")


def _tensor(function: str, argument: str, value: object, wanted: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise refuse(function, argument, type(value).__name__, wanted)
    return value


def _on(device: torch.device | None, function: str, argument: str, tensor: Tensor) -> Tensor:
    if device is not None and tensor.device != device:
        raise refuse(function, argument, f"on {tensor.device}", f"on {device}")
    return tensor
