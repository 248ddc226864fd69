"""Which linear layers `engine.linear=fp8` is for, and what it is not for."""

from __future__ import annotations

from typing import Any

MULTIPLE = 16  # of which fp8 products want inputs and outputs


def takes_fp8(inputs: int, outputs: int) -> bool:
    """Whether the hardware multiplies by a matrix of this shape in fp8."""
    return inputs % MULTIPLE == outputs % MULTIPLE == 0


def linear_misfits(config: Any) -> list[str]:
    """What fp8 cannot do in this run: a line each."""
    if config.engine.linear != "fp8":
        return []
    wrong, model = [], config.model
    others = (model.heads * model.head_channels, model.key_heads * model.head_channels, model.ffn_channels)
    if not any(takes_fp8(model.width, other) for other in others):
        wrong.append(
            f"engine.linear: fp8 is for layers whose inputs and outputs are multiples of {MULTIPLE}, and no block of "
            f"model.width {model.width} has one; leave engine.linear=bf16"
        )
    if config.machine.peak_flops and "fp8" not in config.machine.peak_flops:
        wrong.append(
            f"engine.linear: fp8 needs a GPU of sm_89 or newer (Ada, Hopper, Blackwell), and machine="
            f"{config.machine.name} states no machine.peak_flops.fp8; take another machine, or engine.linear=bf16"
        )
    if config.task.reference:
        wrong.append(
            f"engine.linear: fp8 is not for task={config.task.name}, whose loss compares with a reference in bf16: the "
            "rounding of fp8 would count as learned; leave engine.linear=bf16"
        )
    return wrong
