"""A layer that knows no other position, computed a tile of positions after the other: what is inside of it is there for
one tile at a time, in the backward pass too, which computes it again (Bekman et al. 2025, Arctic Long Sequence
Training, who tile the feed-forward and the loss).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer.models.sequence.slices import Stretch

Inside = Callable[[Tensor, Stretch], Tensor]


def use_tiles(model: nn.Module, size: int | None) -> list[nn.Module]:
    """Have the feed-forwards of a model compute so many positions at a time; None: all. Returns those modules."""
    found = [module for module in model.modules() if hasattr(module, "tile")]
    for module in found:
        setattr(module, "tile", size)  # noqa: B010 - no parameter of it
    return found if size is not None else []


def tiles(held: Iterable[Stretch], size: int) -> list[Stretch]:
    """Stretches of positions, in parts of at most `size`."""
    return [Stretch(first + at, min(size, length - at)) for first, length in held for at in range(0, length, size)]


def in_tiles(inside: Inside, x: Tensor, parts: list[Stretch]) -> Tensor:
    """inside(part of x, its positions) for each part of x [..., S, channels], one after the other: [..., S, outputs].

    Of x and what is made of it, x alone is kept.
    """
    split = x.split([length for _, length in parts], dim=-2)
    if not torch.is_grad_enabled():
        return torch.cat([inside(part, place) for part, place in zip(split, parts, strict=True)], dim=-2)
    source = _Source(x, split)
    made = [
        checkpoint(lambda n=number: inside(source(n), parts[n]), use_reentrant=False, preserve_rng_state=False)
        for number in range(len(parts))
    ]
    return torch.cat(made, dim=-2)


class _Source:
    """The parts of x: in the forward pass themselves, later out of what autograd has kept of x.

    It is kept before anything is made of it. So where a whole block is computed again around this, that ends here: the
    block has back all that it kept, and what follows is computed once, tile by tile.
    """

    def __init__(self, x: Tensor, split: tuple[Tensor, ...]) -> None:
        self.kept = _Keep.apply(torch.empty(0, requires_grad=True), x)
        self.split: tuple[Tensor, ...] | None = split
        self.sizes, self.learns = [part.shape[-2] for part in split], x.requires_grad
        self.given = 0  # parts that were asked for in this pass, each once

    def __call__(self, number: int) -> Tensor:
        if self.split is None:  # what is kept is to be read once, and held until the last tile has read its part
            (x,) = self.kept.grad_fn.saved_tensors
            self.split, self.given = x.detach().split(self.sizes, dim=-2), 0
        part = self.split[number]
        self.given += 1
        if self.given == len(self.sizes):
            self.split = None
        return part if part.requires_grad else part.requires_grad_(self.learns)


class _Keep(torch.autograd.Function):
    """Keeps x, as an operation that needs its input in the backward pass would. Nothing reads its result."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None
