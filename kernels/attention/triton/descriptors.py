"""Keys and values by TMA (the tensor memory accelerator of sm_90 and above): when the forward kernel loads them so, and
what that asks of the host.

A program describes the keys and values of its head on the device: two dimensions, rows and columns, with the strides
that the tensor has. The launch encodes nothing; it allocates 128 bytes of scratch for each descriptor a program holds.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.triton.operands import Switches
from kernels.backends import logger
from kernels.configs import Tile, architecture, descriptor_tile, kind_of
from kernels.errors import KernelInputError

SPECIALIZE = "ISOFLOP_WARP_SPECIALIZE"  # 1: warps of their own for the loads, where kernels/table.py has a tile for it
_said: set[str] = set()


def forward_choice(switches: Switches, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tile, Switches] | None:
    """Tile and switches of the forward kernel that loads by TMA, or None where it loads by pointers."""
    arch, kind = architecture(q.device), kind_of(q.dtype, switches)
    warps = _warps_asked() and descriptor_tile("warps", arch, switches.head_dim, kind)
    tile = warps or descriptor_tile("tma", arch, switches.head_dim, kind)
    if not tile:
        return None
    described = {"k": k, "v": v} | ({"q": q} if warps else {})
    reason = triton_lacks() or next((f"{name}: {why}" for name, one in described.items() if (why := lacks(one))), "")
    if reason:
        _say_once(f"attention forward on {arch}: loads by pointers, not by TMA ({reason})")
        return None
    return tile, switches._replace(descriptors=True, specialized=bool(warps))


def lacks(tensor: Tensor) -> str | None:
    """Why no descriptor can hold the heads of a tensor [B, S, H, D], or None (CUDA driver API, tensor maps)."""
    *outer, last = tensor.stride()
    if last != 1:
        return f"the stride of its last dimension is {last}, not 1"
    size = tensor.element_size()
    if any(stride * size % 16 for stride in outer):
        return f"its strides {tuple(outer)} are no multiples of {16 // size} elements, 16 bytes"
    if tensor.data_ptr() % 16:
        return "its address is no multiple of 16 bytes"
    if not 0 < outer[1] * size < 2**40:
        return f"the stride of its rows, {outer[1]}, is 0 or reaches 2^40 bytes"
    return None


def triton_lacks() -> str | None:
    if hasattr(tl, "make_tensor_descriptor") and hasattr(triton, "set_allocator"):
        return None
    return f"Triton {triton.__version__} has no tensor descriptors"


def provide_scratch() -> None:
    """Triton asks a function of the current context, which each thread has for itself, for the descriptors' memory."""
    triton.set_allocator(_scratch)


def _scratch(size: int, alignment: int, stream: int | None) -> Tensor:
    """On the current stream, which is the launch's: the memory may be reused when the kernel is done."""
    return torch.empty(size, dtype=torch.int8, device="cuda")


def _warps_asked() -> bool:
    value = os.environ.get(SPECIALIZE, "0")
    if value not in ("0", "1"):
        raise KernelInputError(f"attention: {SPECIALIZE}={value!r}; allowed: 0, 1")
    return value == "1"


def _say_once(line: str) -> None:
    if line not in _said:
        _said.add(line)
        logger.info(line)
