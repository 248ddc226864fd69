"""Compile kernels for GPUs that are not there, and read what the code needs: registers, spills, shared memory, and
which matrix instructions it uses. Needs Triton without its interpreter, and neither a GPU nor a driver."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

# Feature sets under which the tiles of a kind must hold (see kernels/configs.py for the kinds).
FEATURES: dict[str, dict[str, Any]] = {
    "causal": {"HAS_RIGHT": True},
    "packed T5": {"HAS_RIGHT": True, "SEGMENTS": True, "BIAS": 2},
    "dropout": {"HAS_RIGHT": True, "K_LENS": True, "DROPOUT": True},
    "softcap and dense bias": {"HAS_LEFT": True, "HAS_RIGHT": True, "SEGMENTS": True, "SOFTCAP": True, "BIAS": 3},
}  # fmt: skip

FEATURES_OF_KIND = {
    "half": ("causal", "packed T5"),
    "half heavy": ("dropout", "softcap and dense bias"),
    "float": ("causal",),
}


def kernels_of(entry: str, kind: str) -> tuple[str, ...]:
    """The kernels that take their tile from an entry of the table; a dense bias is heavy or float32."""
    return ("bias", "dense") if entry == "bias" and kind != "half" else (entry,)


@dataclass(frozen=True)
class Resources:
    """registers a thread; spill and shared bytes; matrix: how many instructions of the chip's own kind stand in the
    code; any_matrix: the same with mma.sync, which small tiles take also on chips with wgmma or tcgen05."""

    registers: int
    spill: int
    shared: int
    matrix: int
    any_matrix: int

    def fits(self, arch: str, own_matrix: bool = True) -> bool:
        """own_matrix: the chip's own matrix instruction is a must (what runs most); else mma.sync will do."""
        multiplies = self.matrix if own_matrix else self.any_matrix
        return self.spill == 0 and self.shared <= SHARED_MEMORY[arch] and multiplies > 0


def target(arch: str) -> Any:
    from triton.backends.compiler import GPUTarget

    if arch.startswith("gfx"):
        return GPUTarget("hip", arch, 64)
    return GPUTarget("cuda", int(arch.removeprefix("sm_")), 32)


def compiled_kernel(kernel: Any, arch: str, types: dict[str, str], constants: dict[str, Any], tile: Tile) -> Any:
    """What Triton compiled (`asm`, `metadata`). types: argument -> "*bf16", "i32", "fp32"; constants: argument -> value
    (a None pointer is a constant too).

    Pointers and strides are taken as multiples of 16, as they are in training.
    """
    import triton
    from triton.compiler import ASTSource

    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    aligned = [n for n in names if signature[n] != "constexpr" and (types[n].startswith("*") or n.startswith("stride"))]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items() if name in names},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    return triton.compile(source, target=target(arch), options=options)


def compile_kernel(kernel: Any, arch: str, types: dict[str, str], constants: dict[str, Any], tile: Tile) -> Resources:
    """What the kernel needs; arguments as of `compiled_kernel`."""
    return resources(compiled_kernel(kernel, arch, types, constants, tile), arch)


def resources(compiled: Any, arch: str) -> Resources:
    """What a compiled kernel needs of this chip."""
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
    counts = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    spill = counts.get("STACK", 0) + counts.get("LOCAL", 0)
    own, common = (compiled.asm["ptx"].count(name) for name in (MATRIX_INSTRUCTION[arch], "mma.sync"))
    return Resources(counts["REG"], spill, shared, own, max(own, common))


_TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
_FLOAT_POINTERS = ("lse_ptr", "delta_ptr", "rest_ptr", "relative_ptr", "partial_ptr", "sink_ptr", "slopes_ptr")
_FLOATS = ("scale", "softcap", "keep_scale")
_UNIT_STRIDES = tuple(f"stride_{tensor}d" for tensor in ("q", "k", "v", "o", "g", "dq", "dk", "dv"))
_COUNTS = ("heads", "q_len", "k_len", "batch_size", "splits")


def compile_attention(
    name: str, arch: str, head_dim: int, dtype: torch.dtype, tile: Tile, features: dict[str, Any], ones: bool = False
) -> Resources:
    """What the kernel needs; arguments as of `compiled_attention`."""
    return resources(compiled_attention(name, arch, head_dim, dtype, tile, features, ones), arch)


def compiled_attention(
    name: str, arch: str, head_dim: int, dtype: torch.dtype, tile: Tile, features: dict[str, Any], ones: bool = False
) -> Any:
    """What Triton compiled, as `compiled_kernel`.

    name: one of ATTENTION_KERNELS, or "dense"; features: the kernels' switches that are on, in any case.

    ones: lengths, heads and batch are 1, which Triton turns into constants, other code than the usual.
    """
    from kernels.attention.triton.backward import attention_dkdv, attention_dq
    from kernels.attention.triton.bias_gradient import attention_dense_gradient, attention_table_gradient
    from kernels.attention.triton.forward import attention_forward

    kernels = {
        "forward": attention_forward,
        "dq": attention_dq,
        "dkdv": attention_dkdv,
        "bias": attention_table_gradient,
        "dense": attention_dense_gradient,
    }
    kernel = kernels[name]
    switches: dict[str, Any] = {
        "GROUPS": 1, "HEAD_DIM": head_dim, "BLOCK_D": block_dim(head_dim), "HAS_LEFT": False, "HAS_RIGHT": False,
        "BIAS": 0, "SEGMENTS": False, "K_LENS": False, "ORDER": 0, "SOFTCAP": False, "SINK": False, "DROPOUT": False,
        "PRECISION": dot_precision(arch, dtype), "WIDE": False, "BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n,
        "BLOCK": min(tile.block_m, tile.block_n),
        "DK": True, "DV": head_dim <= 128, "ONE_BATCH": True, "ONE_HEAD": False, "ONE_ROW": False, "ONE_COL": False,
    } | {switch.upper(): on for switch, on in features.items()}  # fmt: skip
    s = switches
    switches["FIRST_MASKED"] = bool(s["HAS_RIGHT"] or s["K_LENS"] or s["SEGMENTS"] or s["ORDER"])
    present = {
        "slopes_ptr": s["BIAS"] == 1, "relative_ptr": s["BIAS"] == 2 or name == "bias",
        "dense_ptr": s["BIAS"] == 3 or name == "dense",
        "k_lens_ptr": s["K_LENS"], "sink_ptr": s["SINK"], "rest_ptr": s["SINK"], "seed_ptr": s["DROPOUT"],
        "dropout_rows_ptr": s["DROPOUT"],
        **dict.fromkeys(("q_rank_ptr", "k_rank_ptr"), bool(s["ORDER"])),
        **dict.fromkeys(
            ("q_segment_ptr", "k_segment_ptr", "q_lo_ptr", "q_hi_ptr", "k_lo_ptr", "k_hi_ptr"), s["SEGMENTS"]
        ),
    }  # fmt: skip
    types: dict[str, str] = {}
    constants: dict[str, Any] = {}
    for argument in kernel.arg_names:
        if argument in switches:
            constants[argument] = switches[argument]
        elif not present.get(argument, True):
            constants[argument] = None
        elif (argument.startswith("stride_") and argument.endswith(("qd", "kd", "vd", "od", "gd"))) or (
            ones and argument in _COUNTS
        ):
            constants[argument] = 1
        elif argument in _FLOATS:
            types[argument] = "fp32"
        elif argument in ("seed_ptr", "dropout_rows_ptr"):
            types[argument] = "*i64"
        elif argument in _FLOAT_POINTERS:
            types[argument] = "*fp32"
        elif (argument in present and argument != "dense_ptr") or argument == "bucket_ptr":
            types[argument] = "*i32"
        elif argument.endswith("_ptr"):
            types[argument] = "*" + _TYPES[dtype]
        else:
            types[argument] = "i32"
    return compiled_kernel(kernel, arch, types, constants, tile)
