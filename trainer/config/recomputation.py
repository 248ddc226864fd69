"""Activation checkpointing: what of a forward pass is not kept, and computed again in the backward pass.

`engine.activation_checkpointing` is false (everything is kept), true (of each block only its input; Chen et al. 2016),
n (the same of every n-th block), or "selective": of attention its scores, what is made of them and the product with
the values (Korthikanti et al. 2022, section 5). The run and its books ask here.
"""

from __future__ import annotations

from typing import Any, Literal

from trainer.utils.errors import nearest

Recomputation = bool | int | Literal["selective"]


def a_recomputation(value: Any) -> Any:
    """A value of the key. Raises ValueError."""
    if isinstance(value, bool) or value == "selective" or (isinstance(value, int) and value > 0):
        return value
    meant = nearest(value, ["selective", "true", "false"]) if isinstance(value, str) else ""
    raise ValueError(f"{value!r} given; true, false, selective, or n for every n-th block (n at least 1) wanted{meant}")


def deepest_stack(config: Any) -> int:
    """Blocks of the model's deepest stack."""
    model = config.model
    sides = [model, model.decoder_side] if model.family == "encoder_decoder" else [model]
    return max(side.depth for side in sides)


def recomputation_misfits(config: Any) -> list[str]:
    """An n that no stack of the model is deep enough for: nothing would be computed again. A line, or none."""
    choice, deepest = config.engine.activation_checkpointing, deepest_stack(config)
    if isinstance(choice, bool) or choice == "selective" or choice <= deepest:
        return []
    return [
        f"engine.activation_checkpointing: {choice} given, for one of every {choice} blocks, and there are {deepest}; "
        f"n of at most {deepest}, true, false or selective wanted"
    ]


def whole_block(choice: Recomputation, layer: int) -> bool:
    """Whether of this block of a stack, numbered from 0, only the input is kept."""
    return choice != "selective" and bool(choice) and (layer + 1) % int(choice) == 0


def whole_blocks(choice: Recomputation, depth: int) -> list[int]:
    """The blocks of a stack of which that is so."""
    return [layer for layer in range(depth) if whole_block(choice, layer)]


def any_block(choice: Recomputation) -> bool:
    """Whether there is such a block in a stack that is deep enough."""
    return choice != "selective" and bool(choice)


def scores(choice: Recomputation) -> bool:
    """Whether attention's scores are computed again."""
    return choice == "selective"
