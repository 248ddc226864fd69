"""RMSNorm on a CPU, where PyTorch composes it of a dozen passes over memory and keeps the normalised input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def cpu_rms_norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x [..., C] divided by the root of its mean square over C, times weight [C] of x's dtype, rounded to `dtype`."""
    out: Tensor = _RMSNorm.apply(x, weight, eps, dtype)
    return out


class _RMSNorm(torch.autograd.Function):
    """It keeps x and one scale a row.

    Backward is LayerNorm's at mean 0, which takes the mean of g = dout * weight from the gradient:
    dx = scale * (g - n mean(g n) - mean(g)), n the normalised row. RMSNorm has no such term, so it is added again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x * scale, weight, out=torch.empty_like(x, dtype=dtype))

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        gradient, columns = gradient.to(x.dtype), x.shape[-1:]
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
        of_x, of_weight, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, columns, torch.zeros_like(scale), scale, weight, None, wanted
        )
        if of_x is not None:
            of_x.add_((gradient @ (weight / columns[0])).unsqueeze(-1) * scale)
        return of_x, of_weight, None, None
