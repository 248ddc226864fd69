"""Matrix products: in which dtype they are computed, and those of one input made at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trainer.models.linear import Linear, linear_product


def computing_dtype(x: Tensor) -> torch.dtype:
    """The dtype of matrix products: autocast's where it is on. As PyTorch's own, they leave float64 alone."""
    return torch.get_autocast_dtype(x.device.type) if _casts(x) else x.dtype


def _casts(x: Tensor) -> bool:
    kind = x.device.type  # of meta tensors, which have no numbers to cast, PyTorch takes the question for an error
    return x.dtype != torch.float64 and kind != "meta" and torch.is_autocast_enabled(kind)


def joined(x: Tensor, layers: Sequence[nn.Linear], *, apart: bool = False) -> tuple[Tensor, ...]:
    """What each of the layers, which all have a bias or none, makes of x [..., width]: one [..., outputs] a layer.

    In training under autocast it is one product, forward and backward: the weights side by side take the place of the
    copies that autocast would make of each. The outputs are then views of one tensor. Elsewhere each layer multiplies
    by itself: without a cast the weights would be copied for nothing, and in evaluation autocast keeps its copies
    from one call to the next. Nor are layers joined that do more than their product, or in functorch's transforms. In
    fp8 the weights have one scale together.
    apart: the forward pass multiplies by each weight, so that outputs are tensors by themselves. A CPU takes up to
    twice as long for an operation on every other stretch of memory, and no less for one wide product than for two.
    """
    training = len(layers) > 1 and torch.is_grad_enabled() and _casts(x)
    if not training or _transformed() or not all(map(_product_alone, layers)):
        return tuple(layer(x) for layer in layers)
    weights: list[Tensor] = [layer.weight for layer in layers]
    biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    in_fp8 = [bool(getattr(layer, "fp8", False)) and layer.training for layer in layers]
    if all(in_fp8):
        together = linear_product(x, torch.cat(weights), torch.cat(biases) if biases else None, fp8=True)
        return together.split([len(one) for one in weights], dim=-1)
    if any(in_fp8):
        return tuple(layer(x) for layer in layers)
    parts: tuple[Tensor, ...] = _Joined.apply(computing_dtype(x), len(weights), apart, x, *weights, *biases)
    return parts


def _transformed() -> bool:
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def _product_alone(layer: nn.Module) -> bool:
    """Whether nobody would miss the call of this layer: an adapter in its place, or a hook. DeepSpeed's hooks, which
    gather a module's parameters, need no call: whoever reads them says so (`reads`)."""
    if type(layer) not in (nn.Linear, Linear) or "forward" in vars(layer):
        return False
    hooks = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_pre_hooks, layer._backward_hooks)
    return all(str(getattr(hook, "__module__", "")).startswith("deepspeed") for some in hooks for hook in some.values())


class _Joined(torch.autograd.Function):
    """x times several weights. It keeps x in the products' dtype and the weights themselves, of which it makes copies
    in that dtype for each pass, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any, dtype: torch.dtype, count: int, apart: bool, x: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        weights, biases = parameters[:count], parameters[count:]
        low = x.to(dtype)
        ctx.save_for_backward(low, *weights)
        ctx.x_dtype, ctx.biases = x.dtype, [one.dtype for one in biases]
        if apart:
            pairs = zip(weights, biases or [None] * count, strict=True)
            return tuple(F.linear(low, one.to(dtype), None if b is None else b.to(dtype)) for one, b in pairs)
        bias = _side_by_side(biases, dtype) if biases else None
        return F.linear(low, _side_by_side(weights, dtype), bias).split([len(one) for one in weights], dim=-1)

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        low, *weights = ctx.saved_tensors
        needed, sizes = ctx.needs_input_grad[3:], [len(one) for one in weights]
        gradient = torch.cat(gradients, dim=-1)
        rows = gradient.reshape(-1, sum(sizes))
        of_x = None
        if needed[0]:
            of_x = (gradient @ _side_by_side(weights, low.dtype)).to(ctx.x_dtype)
        of_weights: list[Tensor | None] = [None] * len(weights)
        if any(needed[1 : 1 + len(weights)]):
            parts = (rows.T @ low.reshape(-1, low.shape[-1])).split(sizes)
            of_weights = [part.to(one.dtype) for part, one in zip(parts, weights, strict=True)]
        of_biases: list[Tensor | None] = []
        if ctx.biases:
            sums = rows.sum(0).split(sizes)
            of_biases = [part.to(dtype) for part, dtype in zip(sums, ctx.biases, strict=True)]
        return None, None, None, of_x, *of_weights, *of_biases


def _side_by_side(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The parts, one below the other, in `dtype`: cast on the way, so that each is read and written once."""
    sizes = [len(part) for part in parts]
    whole = parts[0].new_empty((sum(sizes), *parts[0].shape[1:]), dtype=dtype)
    for place, part in zip(whole.split(sizes), parts, strict=True):
        place.copy_(part)
    return whole
