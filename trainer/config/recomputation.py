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


TILE = "engine.feed_forward_tile"


def tile_misfits(config: Any) -> list[str]:
    """What a feed-forward cannot compute tile by tile: a line each."""
    engine, off = config.engine, f"leave {TILE}=null"
    if engine.feed_forward_tile is None:
        return []
    wrong, held = [], max(config._stated_lengths().values()) // engine.sequence_parallel
    if held <= engine.feed_forward_tile:
        near = f"{held // 2} or less would do, or " if held > 1 else ""
        wrong.append(
            f"{TILE}: {engine.feed_forward_tile} given, and a rank has {held} positions of the longest sequence, so "
            f"that nothing is divided; {near}{off}"
        )
    if config.model.experts.count:
        wrong.append(f"{TILE}: not with model.experts.count, whose products are over all tokens of an expert; {off}")
    if engine.linear == "fp8":
        wrong.append(f"{TILE}: not with engine.linear=fp8, whose scales are of all tokens of a pass; {off}")
    if engine.compile is True:
        wrong.append(f"engine.compile: not with {TILE}; leave engine.compile=auto")
    return wrong


def in_tiles(config: Any, length: int) -> bool:
    """Whether feed-forwards over so many positions of a rank are computed tile by tile."""
    tile: int | None = config.engine.feed_forward_tile
    return tile is not None and length > tile


def whole_block(choice: Recomputation, layer: int) -> bool:
    """Whether of this block of a stack, numbered from 0, only the input is kept."""
    return choice != "selective" and bool(choice) and (layer + 1) % int(choice) == 0


def whole_blocks(choice: Recomputation, depth: int) -> list[int]:
    """The blocks of a stack of which that is so."""
    return [layer for layer in range(depth) if whole_block(choice, layer)]


def any_block(choice: Recomputation) -> bool:
    """Whether there is such a block in a stack that is deep enough."""
    return choice != "selective" and bool(choice)


def keeps_casts(engine: Any) -> bool:
    """Whether autocast keeps a weight in low precision until the end of a pass: not where that is all that is kept of a
    block, and tiles cast each for itself, so that their gradients of a weight add up in fp32."""
    return not any_block(engine.activation_checkpointing) and engine.feed_forward_tile is None


def scores(choice: Recomputation) -> bool:
    """Whether attention's scores are computed again."""
    return choice == "selective"
