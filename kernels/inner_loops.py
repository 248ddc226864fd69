"""What attention's inner loops cost on GPUs that are not there: compiled, disassembled, counted."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch

from kernels import disassembly, offline
from kernels.configs import Tile, attention_tile, block_dim, descriptor_tile, kind_of, ordered_tile
from kernels.disassembly import (
    Clocks,
    Loop,
    clocks,
    disassemble,
    programs_of_an_sm,
    serialization,
    tile_loops,
)
from kernels.offline import compiled_attention, resources

ARCHITECTURES = ("sm_90", "sm_100", "sm_80")
HEADS = (64, 128)
UNIT = 64  # columns (dkdv, ordered: queries) that counts of instructions are given for

# The products of one tile, up to head size 128: q k^T, p v; q k^T, dO v^T, dS k; the same two, p^T dO, dS^T q; the two;
# all five of the backward pass in one walk.
PRODUCTS = {"forward": 2, "dq": 3, "dkdv": 4, "bias": 2, "dense": 2, "tma": 2, "warps": 2, "ordered": 5}
# The forward kernel that loads by tensor descriptors, also with warps of their own.
DESCRIBED = {"tma": {"descriptors": True}, "warps": {"descriptors": True, "specialized": True}}

_PACKED = {"has_right": True, "segments": True}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"has_right": True},
    "segments": {"segments": True},
    "packed": _PACKED,
    "packed window": _PACKED | {"has_left": True},
    "packed ALiBi": _PACKED | {"bias": 1},
    "T5": {"bias": 2},
    "packed T5": _PACKED | {"bias": 2},
    "packed dropout": _PACKED | {"dropout": True},
    "packed soft-cap": _PACKED | {"softcap": True},
    "segments, dense bias": {"segments": True, "bias": 3},
    "segments, ranks": {"segments": True, "order": 1},
}
_MOST_USED = ("plain", "causal", "segments", "packed")
_OWN_KINDS = {  # of kernels for one bias alone, and of those that stand beside another
    "bias": ("T5", "packed T5"),
    "dense": ("segments, dense bias",),
    **dict.fromkeys((*DESCRIBED, "ordered"), _MOST_USED),
}


class Case(NamedTuple):
    """kernel: of PRODUCTS; kind: what the features are called, which `kernels.offline.compiled_attention` has."""

    arch: str
    kernel: str
    head: int
    kind: str
    features: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.arch} {self.kernel} {self.head} {self.kind}"


def cases(archs: Sequence[str] = ARCHITECTURES, kernels: Sequence[str] = tuple(PRODUCTS)) -> list[Case]:
    """Every row of the table, in its order: what has a tile."""
    return [
        Case(arch, kernel, head, kind, KINDS[kind])
        for arch, kernel, head in product(archs, kernels, HEADS)
        for kind in _OWN_KINDS.get(kernel, tuple(KINDS))
        if tile_for(kernel, arch, head, torch.bfloat16, KINDS[kind])
    ]


@dataclass(frozen=True)
class Iteration:
    """instructions: of a warp, for UNIT columns; clocks: of a program's iteration over one tile."""

    instructions: float
    clocks: Clocks


@dataclass(frozen=True)
class Costs:
    """A kernel's needs and what its loops cost. inner: the shortest loop, which masks nothing where there are several;
    masked: the longest one, None where there is one loop only, which masks what there is to mask.

    registers: of a thread; spill, shared: bytes; programs: that an SM holds at once; serialization: as of
    `kernels.disassembly.serialization`.
    """

    tile: Tile
    registers: int
    spill: int
    shared: int
    programs: int
    serialization: float | None
    inner: Iteration
    masked: Iteration | None


def tile_for(kernel: str, arch: str, head_dim: int, dtype: torch.dtype, features: Mapping[str, Any]) -> Tile | None:
    """The tile that a call with these features takes; None where it takes another kernel."""
    from kernels.attention.triton.operands import Switches

    entry, own = {"bias": ("bias", {"bias": 2}), "dense": ("bias", {"bias": 3})}.get(kernel, (kernel, {}))
    switches = Switches(head_dim, block_dim(head_dim))._replace(**own | dict(features))
    kind = kind_of(dtype, switches)
    if kernel in DESCRIBED:
        return descriptor_tile(kernel, arch, head_dim, kind)
    if kernel == "ordered":
        return ordered_tile(arch, head_dim, kind)
    return attention_tile(entry, arch, head_dim, kind)


def source_of(kernel: str, head_dim: int, tile: Tile, features: Mapping[str, Any]) -> str:
    """A digest of all that the costs of a case follow from, but Triton's version: code, tile and features."""
    code = [offline.attention_kernel("forward" if kernel in DESCRIBED else kernel).cache_key]
    code += [inspect.getsource(one) for one in (disassembly, offline, costs, _iteration)]
    whole = repr((code, kernel, head_dim, tuple(tile), sorted(features.items())))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def costs(kernel: str, arch: str, head_dim: int, features: Mapping[str, Any]) -> Costs:
    """Of an attention kernel in bf16 with the table's tile; kernel and features as `offline.compiled_attention`."""
    tile = tile_for(kernel, arch, head_dim, torch.bfloat16, features)
    if tile is None:
        raise ValueError(f"{kernel} has no tile for {arch}, head size {head_dim}, {features}")
    name, switches = ("forward", DESCRIBED[kernel]) if kernel in DESCRIBED else (kernel, {})
    compiled = compiled_attention(name, arch, head_dim, torch.bfloat16, tile, dict(features) | switches)
    needs, meta = resources(compiled, arch), compiled.metadata
    code = disassemble(compiled.asm["cubin"])
    found = [_iteration(kernel, arch, head_dim, tile, loop) for loop in tile_loops(code)]
    if not found:
        raise ValueError("no loop of its code multiplies matrices and takes exponentials")
    by_length = sorted(found, key=lambda one: one.instructions)
    return Costs(
        tile=tile,
        registers=needs.registers,
        spill=needs.spill,
        shared=needs.shared,
        programs=programs_of_an_sm(arch, needs.registers, needs.shared, meta.num_warps, getattr(meta, "tmem_size", 0)),
        serialization=serialization(code),
        inner=by_length[0],
        masked=by_length[-1] if len(found) > 1 else None,
    )


def _iteration(kernel: str, arch: str, head_dim: int, tile: Tile, loop: Loop) -> Iteration:
    """A bias's gradient takes a head in parts of 128 bytes, in a loop inside. Where warps are specialised, those that
    run this loop have a share of the tile, and the others of them run a copy of it."""
    rows, columns = tile.block_m, tile.block_n
    if kernel == "bias":
        rows = columns = min(rows, columns)
    whole = PRODUCTS[kernel] * rows * columns * block_dim(head_dim)
    loop = loop.unrolled(max(1, block_dim(head_dim) // 64))
    warps = max(tile.warps, round(whole / loop.multiply_adds) if loop.multiply_adds else 0)
    walked = rows if kernel in ("dkdv", "ordered") else columns
    return Iteration(len(loop.code) * UNIT / walked, clocks(loop, arch, warps, whole))


def costs_of(case: Case) -> Costs | str:
    """The case's costs or, where its kernel does not compile, why."""
    try:
        return costs(case.kernel, case.arch, case.head, case.features)
    except Exception as error:  # the compiler gives up in many ways
        return (str(error).splitlines() or [type(error).__name__])[0][:200]


def all_costs(wanted: Sequence[Case], processes: int | None = None) -> Iterator[tuple[Case, Costs | str]]:
    """In the order of `wanted`, from processes of their own (default: one a core) without Triton's interpreter."""
    with _compiling(), ProcessPoolExecutor(processes or os.cpu_count(), get_context("spawn")) as pool:
        yield from zip(wanted, pool.map(costs_of, wanted), strict=True)


@contextmanager
def _compiling() -> Iterator[None]:
    """Processes started here compile kernels; the interpreter runs them."""
    interpreter = os.environ.pop("TRITON_INTERPRET", None)
    try:
        yield
    finally:
        if interpreter is not None:
            os.environ["TRITON_INTERPRET"] = interpreter
