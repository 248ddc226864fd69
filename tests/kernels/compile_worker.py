"""Compiles kernels for absent GPUs in a process of its own, without the interpreter: JSON jobs in, JSON results out.

A job is {"kernel", "arch", "head", "dtype", "tile", "features"} for an attention kernel, or {"kernel", "arch"} for one
of the others.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import torch

from kernels.configs import Tile
from kernels.offline import FEATURES, Constant, compile_attention, compile_kernel, resources

FLOAT_POINTERS = ("mean_ptr", "scale_ptr", "dweight_ptr", "dbias_ptr", "cos_ptr", "sin_ptr", "lse_ptr", "dlse_ptr")
FLOAT_POINTERS += ("total_ptr", "plain_ptr", "squared_ptr", "upstream_ptr")
FLOATS = ("eps", "sign", "smoothing", "z_loss", "softcap")


def others() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Kernel and switches of everything beside attention's table."""
    from kernels.gated.triton import gated_backward, gated_forward
    from kernels.loss.triton import row_loss
    from kernels.norm.triton import norm_backward, norm_forward
    from kernels.rotary.triton import rotate_tokens

    loss = {"SOFTCAP": True, "GRADIENT": True, "UPSTREAM": True, "BLOCK": 4096}
    turn = {"INTERLEAVED": True, "PARTIAL": True, "BLOCK_H": 16, "BLOCK_R": 64, "BLOCK_D": 64}
    return {
        "loss": (row_loss, loss),
        "norm forward": (norm_forward, {"CENTER": True, "RESIDUAL": True, "BIAS": True, "BLOCK": 4096}),
        "norm backward": (norm_backward, {"CENTER": True, "DTOTAL": True, "BIAS": True, "BLOCK": 4096}),
        "rotary": (rotate_tokens, turn),
        **{f"gated {kind}": (gated_forward, {"KIND": kind, "BLOCK": 1024}) for kind in range(3)},
        **{f"gated backward {kind}": (gated_backward, {"KIND": kind, "BLOCK": 1024}) for kind in range(3)},
    }


def compile_delta(arch: str) -> Any:
    from kernels.attention.triton.backward import attention_delta
    from kernels.attention.triton.operands import Operand, Switches

    tensor = Operand("*bf16", "i32", "i32", "i32", Constant(1))
    arguments = {
        "out": tensor, "dout": tensor, "heads": "i32", "q_len": "i32", "S": Constant(Switches(128, 128)),
        **dict.fromkeys(("lse_ptr", "dlse_ptr", "delta_ptr"), "*fp32"), "HAS_DLSE": Constant(True),
    }  # fmt: skip
    return resources(compile_kernel(attention_delta, arch, arguments, Tile(64, 64, 4, 2)), arch)


def compile_other(name: str, arch: str) -> Any:
    if name == "delta":
        return compile_delta(arch)
    kernel, constants = others()[name]

    def kind(argument: str) -> Any:
        if argument in constants:
            return Constant(constants[argument])
        if argument in ("targets_ptr",):
            return "*i64"
        if argument in FLOAT_POINTERS and not (name.startswith("norm") and argument == "total_ptr"):
            return "*fp32"
        if argument.endswith("_ptr"):
            return "*bf16"
        return "fp32" if argument in FLOATS else "i32"

    arguments = {argument: kind(argument) for argument in kernel.arg_names}
    return resources(compile_kernel(kernel, arch, arguments, Tile(0, 0, 8, 2)), arch)


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        try:
            if "tile" in job:
                features = FEATURES[job["features"]]
                dtype = getattr(torch, job["dtype"])
                found = compile_attention(
                    job["kernel"], job["arch"], job["head"], dtype, Tile(*job["tile"]), features, job.get("ones", False)
                )
            else:
                found = compile_other(job["kernel"], job["arch"])
            print(json.dumps({"job": job, **asdict(found)}), flush=True)
        except Exception as error:
            print(json.dumps({"job": job, "error": repr(error)[:500]}), flush=True)


if __name__ == "__main__":
    main()
