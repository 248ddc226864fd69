"""Which tile a kernel uses on which GPU: a lookup in the table of `kernels/table.py`, never a run-time search."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple, Protocol

import torch

from kernels.table import ATTENTION, DESCRIPTORS, ROWS


class Features(Protocol):
    """Of the switches of the attention kernels, those by which tiles differ."""

    @property
    def bias(self) -> int: ...
    @property
    def segments(self) -> bool: ...
    @property
    def order(self) -> int: ...
    @property
    def softcap(self) -> bool: ...
    @property
    def dropout(self) -> bool: ...


class Tile(NamedTuple):
    """block_m: queries (or rows) of a tile; block_n: keys (or columns); warps and stages as Triton names them.

    far: 1 where far tiles of a bucket table have a loop of their own; for some tiles registers do not suffice.
    """

    block_m: int
    block_n: int
    warps: int
    stages: int
    far: int = 0


# Shared memory that one program may use, bytes: CUDA C++ Programming Guide, table "Technical specifications per compute
# capability"; CDNA3 and CDNA4 ISA guides, "LDS".
SHARED_MEMORY = {
    "sm_80": 166912,
    "sm_86": 101376,
    "sm_90": 232448,
    "sm_100": 232448,
    "sm_120": 101376,
    "gfx942": 65536,
    "gfx950": 163840,
}
_NVIDIA = {(8, 0): "sm_80", (8, 6): "sm_86", (8, 7): "sm_80", (8, 9): "sm_86", (9, 0): "sm_90"}


def nvidia_architecture(major: int, minor: int) -> str:
    """The table's column for a compute capability; a chip without its own takes the nearest one below."""
    if (major, minor) in _NVIDIA:
        return _NVIDIA[major, minor]
    if major == 10:
        return "sm_100"
    return "sm_120" if major >= 11 else "sm_86"


@cache
def _of_device(index: int) -> str:
    properties = torch.cuda.get_device_properties(index)
    if torch.version.hip:
        name = properties.gcnArchName.split(":")[0]
        return "gfx950" if name.startswith("gfx95") else "gfx942"
    return nvidia_architecture(properties.major, properties.minor)


def architecture(device: torch.device) -> str:
    """ "sm_90", "gfx942", ... or "interpreter" for a tensor on the CPU."""
    if device.type != "cuda":
        return "interpreter"
    return _of_device(device.index if device.index is not None else torch.cuda.current_device())


def chip(device: torch.device) -> str | None:
    """As `architecture`, but "sm_70" too, for which there is no tile, and None where PyTorch sees no GPU."""
    return _chip(device.index) if device.type == "cuda" and torch.cuda.is_available() else None


@cache
def _chip(index: int | None) -> str:
    index = torch.cuda.current_device() if index is None else index
    major, minor = torch.cuda.get_device_capability(index)
    return _of_device(index) if torch.version.hip or major >= 8 else f"sm_{major}{minor}"


def block_dim(head_dim: int) -> int:
    """The power of two, at least 16, that holds a head."""
    return max(16, 1 << (head_dim - 1).bit_length())


def kind_of(dtype: torch.dtype, switches: Features) -> str:
    """The table's kind for these switches of kernels/attention/triton/operands.py."""
    s = switches
    if dtype == torch.float32:
        return "float"
    if s.dropout or s.softcap or s.bias == 3:
        return "heavy"
    if s.bias == 2:
        return "t5"
    return "segments" if s.segments or s.order or s.bias else "plain"


def head_class(head_dim: int) -> int:
    """The table's head size: 64, 128 or 256."""
    return max(64, block_dim(head_dim))


def attention_tile(kernel: str, arch: str, head_dim: int, kind: str) -> Tile:
    """kernel: "forward", "dq", "dkdv" or "bias"; kind: of `kind_of`."""
    if arch == "interpreter":
        return Tile(64, 64, 4, 1, 1)
    return Tile(*ATTENTION[arch][kernel, head_class(head_dim), kind])


def descriptor_tile(way: str, arch: str, head_dim: int, kind: str) -> Tile | None:
    """The forward kernel's tile where it loads by "tma", also with specialised "warps"; None where it does not."""
    entry = DESCRIPTORS.get(arch, {}).get((way, head_class(head_dim), kind))
    return Tile(*entry) if entry else None


def dkdv_passes(head_dim: int) -> tuple[tuple[bool, bool], ...]:
    """(form dK, form dV) of each launch: both at once, but one after the other where registers would spill."""
    return ((True, True),) if head_dim <= 128 else ((True, False), (False, True))


# The backward pass in one walk (kernels/attention/triton/ordered.py): architecture -> (head size, kind) -> tile. Chosen
# by hand as tune.py chooses without a GPU: the largest that compiles without a spill. An architecture that is not here,
# and a kind or head size, takes two passes.
ORDERED: dict[str, dict[tuple[int, str], Tile]] = {
    "sm_90": {(64, "plain"): Tile(64, 128, 8, 1), (64, "segments"): Tile(64, 128, 8, 1)},
    "sm_100": {(64, "plain"): Tile(64, 128, 8, 1), (64, "segments"): Tile(64, 128, 8, 1)},
}


def ordered_tile(arch: str, head_dim: int, kind: str) -> Tile | None:
    """The tile of the backward pass in one walk, or None where it has none."""
    if arch == "interpreter":
        return Tile(64, 64, 4, 1)
    return ORDERED.get(arch, {}).get((head_class(head_dim), kind))


def row_warps(columns: int) -> int:
    """Warps for a kernel that keeps one row of `columns` values in registers."""
    for limit, warps in ROWS:
        if columns <= limit:
            return warps
    return ROWS[-1][1]


def dot_precision(arch: str, dtype: torch.dtype) -> str:
    """float32 products take three TF32 products on NVIDIA (nearly float32's accuracy), native float32 elsewhere."""
    return "tf32x3" if dtype == torch.float32 and arch.startswith("sm_") else "ieee"
