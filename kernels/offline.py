"""Compile kernels for GPUs that are not there, and read what the code needs: registers, spills, shared memory, and
which matrix instructions it uses. Needs Triton without its interpreter, and neither a GPU nor a driver."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kernels.configs import SHARED_MEMORY, Tile, block_dim, dot_precision

# The instruction that multiplies matrices on each chip.
MATRIX_INSTRUCTION = {
    "sm_80": "mma.sync",
    "sm_86": "mma.sync",
    "sm_90": "wgmma.mma_async",
    "sm_100": "tcgen05.mma",
    "sm_120": "mma.sync",
    "gfx942": "v_mfma",
    "gfx950": "v_mfma",
}
ATTENTION_KERNELS = ("forward", "dq", "dkdv", "bias")

# Feature sets under which the tiles of a kind must hold (see kernels/configs.py for the kinds): of what presets use
# (tests/kernels/preset_features.py), those that need most. groups: any number above 1 makes dK and dV sums over heads.
_PACKED: dict[str, Any] = {"has_right": True, "segments": True}
FEATURES: dict[str, dict[str, Any]] = {
    "causal": {"has_right": True},
    "window and padding": {"has_left": True, "has_right": True, "k_lens": True},
    "documents": {"segments": True},
    "packed": _PACKED,
    "packed groups": _PACKED | {"groups": 2},
    "packed window": _PACKED | {"has_left": True},
    "packed window, groups": _PACKED | {"has_left": True, "groups": 2},
    "packed ALiBi": _PACKED | {"bias": 1},
    "ranks": {"order": 1, "k_lens": True},
    "segments and ranks, groups": {"segments": True, "order": 1, "groups": 2},
    "packed T5": _PACKED | {"bias": 2},
    "T5": {"bias": 2},
    "dropout": {"has_right": True, "k_lens": True, "dropout": True},
    "packed dropout": _PACKED | {"dropout": True},
    "ranks and dropout": {"segments": True, "order": 1, "dropout": True},
    "packed T5 and dropout": _PACKED | {"bias": 2, "dropout": True},
    "dense bias and dropout": {"segments": True, "bias": 3, "dropout": True},
    "ranks and dense bias": {"segments": True, "order": 1, "bias": 3},
    "packed softcap, groups": _PACKED | {"softcap": True, "groups": 2},
    "softcap and dense bias": _PACKED | {"has_left": True, "softcap": True, "bias": 3},
}

FEATURES_OF_KIND = {
    "plain": ("causal", "window and padding"),
    "segments": (
        "documents", "packed", "packed groups", "packed window", "packed window, groups", "packed ALiBi", "ranks",
        "segments and ranks, groups",
    ),
    "t5": ("packed T5", "T5"),
    "heavy": (
        "dropout", "packed dropout", "ranks and dropout", "packed T5 and dropout", "dense bias and dropout",
        "ranks and dense bias", "packed softcap, groups", "softcap and dense bias",
    ),
    "float": ("causal", "packed T5"),
}  # fmt: skip


def kernels_of(entry: str, kind: str) -> tuple[str, ...]:
    """The kernels that take their tile from an entry of the table; a dense bias is heavy or float32."""
    if entry != "bias":
        return (entry,)
    return {"t5": ("bias",), "heavy": ("bias", "dense"), "float": ("bias", "dense")}.get(kind, ())


class Constant(NamedTuple):
    """An argument's value that the compiler knows; None for a pointer that is not there."""

    value: Any


def features_of(kernel: str, kind: str) -> tuple[str, ...]:
    """The feature sets of a kind in which this kernel runs: gradients of a bias need it."""
    wanted = {"bias": 2, "dense": 3}.get(kernel)
    return tuple(
        name for name in FEATURES_OF_KIND[kind] if wanted is None or FEATURES[name].get("bias", wanted) == wanted
    )


@dataclass(frozen=True)
class Resources:
    """registers a thread; spill and shared bytes; matrix: how many instructions of the chip's own kind stand in the
    code; any_matrix: the same with mma.sync, which small tiles take also on chips with wgmma or tcgen05; serialized: on
    sm_90, products wait for one another (more than one WARPGROUP.ARRIVE for three HGMMA)."""

    registers: int
    spill: int
    shared: int
    matrix: int
    any_matrix: int
    serialized: bool = False

    def fits(self, arch: str, own_matrix: bool = True) -> bool:
        """own_matrix: the chip's own matrix instruction is a must (what runs most); else mma.sync will do."""
        multiplies = self.matrix if own_matrix else self.any_matrix
        whole = self.spill == 0 and self.shared <= SHARED_MEMORY[arch]
        return whole and multiplies > 0 and not (own_matrix and self.serialized)


def target(arch: str) -> Any:
    from triton.backends.compiler import GPUTarget

    if arch.startswith("gfx"):
        return GPUTarget("hip", arch, 64)
    return GPUTarget("cuda", int(arch.removeprefix("sm_")), 32)


def compile_kernel(kernel: Any, arch: str, arguments: dict[str, Any], tile: Tile) -> Any:
    """Triton's compiled kernel. arguments: name -> "*bf16", "i32", "fp32", a `Constant`, or a named tuple of these.

    Pointers and strides are taken as multiples of 16, as they are in training; other integers as anything.
    """
    import triton
    from triton.compiler import ASTSource

    signature: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {}
    aligned: dict[tuple[int, ...], list[list[Any]]] = {}

    def declare(value: Any, path: tuple[int, ...], strides: bool) -> Any:
        if isinstance(value, tuple) and not isinstance(value, Constant):
            return type(value)(*(declare(one, (*path, i), True) for i, one in enumerate(value)))
        if isinstance(value, Constant):
            constants[path] = value.value
            return "constexpr"
        if value.startswith("*") or (strides and value == "i32"):
            aligned[path] = [["tt.divisibility", 16]]
        return value

    for position, name in enumerate(kernel.arg_names):
        signature[name] = declare(arguments[name], (position,), name.startswith("stride"))
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    return triton.compile(source, target=target(arch), options=options)


def resources(compiled: Any, arch: str) -> Resources:
    shared = int(compiled.metadata.shared)
    if arch.startswith("gfx"):
        text = compiled.asm["amdgcn"]

        def field(name: str) -> int:
            found = re.search(name + r":\s*(\d+)", text)
            return int(found.group(1)) if found else 0

        # Scalar registers that spill go to lanes of vector registers, not to memory, and do not count.
        spill = max(4 * field(r"\.vgpr_spill_count"), field("ScratchSize"))
        matrix = text.count(MATRIX_INSTRUCTION[arch])
        return Resources(field(r"\.vgpr_count"), spill, shared, matrix, matrix)
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
        code = subprocess.run([tool, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    counts = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    spill = counts.get("STACK", 0) + counts.get("LOCAL", 0)
    own, common = (compiled.asm["ptx"].count(name) for name in (MATRIX_INSTRUCTION[arch], "mma.sync"))
    serialized = 3 * code.count("WARPGROUP.ARRIVE") > code.count("HGMMA")
    return Resources(counts["REG"], spill, shared, own, max(own, common), serialized)


def attention_kernel(name: str) -> Any:
    """Triton's function. name: one of ATTENTION_KERNELS, "dense" or "ordered"."""
    from kernels.attention.triton.backward import attention_dkdv, attention_dq
    from kernels.attention.triton.bias_gradient import attention_dense_gradient, attention_table_gradient
    from kernels.attention.triton.forward import attention_forward
    from kernels.attention.triton.ordered import attention_ordered

    return {
        "forward": attention_forward,
        "dq": attention_dq,
        "dkdv": attention_dkdv,
        "ordered": attention_ordered,
        "bias": attention_table_gradient,
        "dense": attention_dense_gradient,
    }[name]


_TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def compiled_attention(
    name: str, arch: str, head_dim: int, dtype: torch.dtype, tile: Tile, features: dict[str, Any], ones: bool = False
) -> Any:
    """Triton's compiled kernel, whose `asm` holds the code. name: of `attention_kernel`; features: the fields of
    `Switches` that are on.

    ones: lengths, heads and batch are 1, as in a batch of single tokens, and with them the strides.
    """
    from kernels.attention.triton.operands import Dropout, Mask, Operand, Scaling, Statistics, Switches

    block = min(tile.block_m, tile.block_n)
    s = Switches(
        head_dim, block_dim(head_dim), precision=dot_precision(arch, dtype), dv=head_dim <= 128,
        far_loops=bool(tile.far), block_m=block if name == "bias" else tile.block_m,
        block_n=block if name == "bias" else tile.block_n,
    )._replace(**{"bias": {"bias": 2, "dense": 3}.get(name, 0)} | features)  # fmt: skip
    s = s._replace(folded=s.bias in (0, 2) and not s.softcap, far=96 if s.bias == 2 else 0)  # 32 buckets to 128
    absent, one = Constant(None), Constant(1)
    stride = one if ones else "i32"

    def given(present: Any, kind: str) -> Any:
        return kind if present else absent

    tensor = Operand("*" + _TYPES[dtype], stride, stride, stride, one)
    pointer = {0: absent, 1: "*fp32", 2: "*fp32", 3: "*" + _TYPES[dtype]}[s.bias]
    mask = Mask(
        given(s.segments, "*i32"), given(s.segments, "*i32"), given(s.segments, "*i32"),
        one if s.segments else "i32", given(s.k_lens, "*i32"), one if s.k_lens else "i32",
        given(s.order, "*i32"), given(s.order, "*i32"), one if s.order else "i32",
    )  # fmt: skip
    arguments = {
        "q": tensor, "k": tensor, "v": tensor, "out": tensor, "dout": tensor, "dq": tensor, "dk": tensor, "dv": tensor,
        "bias": Operand(pointer, stride, stride, stride, "i32" if s.bias == 3 else stride),
        "partial": Operand("*fp32", stride, stride, stride, one),
        "lse_ptr": "*fp32", "sink_ptr": given(s.sink, "*fp32"), "bucket_ptr": "*i32", "partial_ptr": "*fp32",
        "dq_ptr": "*fp32", "rest_ptr": given(s.sink, "*fp32"), "counters": "*i32", "hull": given(s.segments, "*i32"),
        "statistics": Statistics("*fp32", "*fp32", given(s.sink, "*fp32")), "mask": mask,
        "dropout": Dropout(given(s.dropout, "*i64"), given(s.dropout, "*i64"), "i32", "fp32"),
        "scaling": Scaling("fp32", "fp32", "fp32", "fp32"), "S": Constant(s),
        **{name: Constant(name == "ONE_BATCH") for name in ("ONE_BATCH", "ONE_HEAD", "ONE_ROW", "ONE_COL")},
        **dict.fromkeys(("batch_size", "heads", "q_len", "k_len", "left", "right", "splits", "buckets"), "i32"),
    }  # fmt: skip
    return compile_kernel(attention_kernel(name), arch, arguments, tile)


def compile_attention(
    name: str, arch: str, head_dim: int, dtype: torch.dtype, tile: Tile, features: dict[str, Any], ones: bool = False
) -> Resources:
    """What the kernel of `compiled_attention` needs."""
    return resources(compiled_attention(name, arch, head_dim, dtype, tile, features, ones), arch)
