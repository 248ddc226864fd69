"""A linear layer and its product: in the precision of the run, or in 8-bit floating point.

In fp8 every tensor is scaled as a whole by the largest of its own numbers, anew in every pass, so that there is no
state: activations and weights in e4m3, gradients in e5m2 (Micikevicius et al. 2022, FP8 formats for deep learning,
section 3). Products are added up in fp32; outputs come out in bf16, gradients in the dtype of what they are of.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trainer.config.linear import MULTIPLE
from trainer.descriptions.optimizers import Role

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
SMALLEST = 1e-30  # that a largest number counts as: its scale is finite, and zeros are zeros


class Linear(nn.Linear):
    """A linear layer whose weight begins normal with standard deviation `std`; its bias begins at zero."""

    role: Role = "matrix"  # of its weight
    fp8 = False  # whether it multiplies in 8 bits in training

    def __init__(self, inputs: int, outputs: int, *, bias: bool, std: float) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.stds = {"weight": std}

    def forward(self, x: Tensor) -> Tensor:
        """[..., outputs]."""
        return linear_product(x, self.weight, self.bias, fp8=self.fp8 and self.training)

    def reset_parameters(self) -> None:
        """Left to `initialize`, which draws every parameter from its own stream."""


def linear_product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, fp8: bool = False) -> Tensor:
    """x [..., inputs] times weight [outputs, inputs], plus bias [outputs]: [..., outputs].

    fp8: in bf16 whatever autocast says, of operands in 8 bits; inputs and outputs are multiples of 16. Otherwise as
    `F.linear`.
    """
    if not fp8:
        return F.linear(x, weight, bias)
    product: Tensor = Fp8Product.apply(x, weight, bias)
    return product


class Scaled(NamedTuple):
    """About values x inverse."""

    values: Tensor  # fp8
    inverse: Tensor  # fp32, one number

    @property
    def transposed(self) -> Scaled:
        """Of a matrix; row after row again, with zeros up to a multiple of 16 columns, as the hardware wants them."""
        rows, dtype = len(self.values), self.values.dtype
        turned = self.values.view(torch.uint8).t()  # bytes can be padded, and those of zero are zero
        if rows % MULTIPLE:
            turned = F.pad(turned, (0, -rows % MULTIPLE))
        else:
            turned = turned.clone(memory_format=torch.contiguous_format)
        return Scaled(turned.view(dtype), self.inverse)


def scaled(x: Tensor, dtype: torch.dtype) -> Scaled:
    """x in fp8, its largest number as the dtype's largest. Where x holds an infinity or a nan, products are nan."""
    lowest, highest = torch.aminmax(x)
    limit = torch.finfo(dtype).max
    scale = limit / torch.maximum(-lowest, highest).float().clamp(min=SMALLEST)
    values = (x.float() * scale).clamp(-limit, limit).to(dtype, memory_format=torch.contiguous_format)
    return Scaled(values, scale.reciprocal())


def _times(a: Scaled, b: Scaled, dtype: torch.dtype, bias: Tensor | None = None, *, fast: bool = False) -> Tensor:
    """a [m, k] times b [n, k] transposed, [m, n]. fast: Hopper may add up in fewer bits than fp32 has."""
    return torch._scaled_mm(
        a.values, b.values.t(), a.inverse, b.inverse, bias=bias, out_dtype=dtype, use_fast_accum=fast
    )


class Fp8Product(torch.autograd.Function):
    """Keeps x and the weight in 8 bits each for its backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows, matrix = scaled(x.reshape(-1, x.shape[-1]), E4M3), scaled(weight, E4M3)
        ctx.save_for_backward(*rows, *matrix)
        ctx.dtypes = x.dtype, weight.dtype, None if bias is None else bias.dtype
        low = None if bias is None else bias.to(torch.bfloat16)
        return _times(rows, matrix, torch.bfloat16, low, fast=True).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, x_inverse, weight, weight_inverse = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.dtypes
        flat = gradient.reshape(-1, gradient.shape[-1])
        rows, dx, dw, db = scaled(flat, E5M2), None, None, None
        if ctx.needs_input_grad[0]:
            dx = _times(rows, Scaled(weight, weight_inverse).transposed, of_x).view(*gradient.shape[:-1], -1)
        if ctx.needs_input_grad[1]:
            dw = _times(rows.transposed, Scaled(x, x_inverse).transposed, of_weight)
        if ctx.needs_input_grad[2]:
            db = flat.sum(0, dtype=torch.float32).to(of_bias)
        return dx, dw, db
