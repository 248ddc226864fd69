"""Which linear layers of a model multiply in 8 bits in training: those of the blocks, in shapes that hardware takes."""

from __future__ import annotations

from torch import nn

from trainer.config.linear import MULTIPLE, takes_fp8
from trainer.models.experts import Experts
from trainer.models.parts import Linear
from trainer.models.stack import Stack

NAMED = 4  # layers at the most, in a line


def use_fp8(model: nn.Module) -> str:
    """Let the blocks' linear layers multiply in fp8 in training; a line that says how many do, and what stays bf16.

    Evaluation and generation multiply in bf16: what a row comes to does not depend on the others of its batch there.
    """
    blocks = {layer for stack in model.modules() if isinstance(stack, Stack) for layer in stack.blocks.modules()}
    layers = {name: layer for name, layer in model.named_modules() if layer in blocks and type(layer) is Linear}
    for layer in layers.values():
        layer.fp8 = takes_fp8(layer.in_features, layer.out_features)
    left = [name for name, layer in layers.items() if not layer.fp8]
    stays = ["embeddings, heads and what is around the blocks"]
    if any(isinstance(layer, Experts) for layer in blocks):
        stays.append("the grouped products of experts")
    if left:
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        named = f"{', '.join(left[:NAMED])}{more}"
        stays.append(f"{len(left)} whose sizes are no multiples of {MULTIPLE} ({named})")
    chosen = len(layers) - len(left)
    return f"engine.linear: {chosen} linear layer{'s' * (chosen != 1)} in fp8; bf16: {'; '.join(stays)}"
