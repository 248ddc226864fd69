"""RMSNorm and LayerNorm with the residual addition, one row a program. Importing this imports Triton."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.configs import row_warps
from kernels.direct import direct
from kernels.launcher import launch
from kernels.norm.reference import sum_dtype

PARTIAL_ROWS = 512  # partial sums of the weight's gradient: fixed, so that results do not depend on the GPU's size


@triton.jit
def norm_forward(
    x_ptr, residual_ptr, weight_ptr, bias_ptr, out_ptr, total_ptr, mean_ptr, scale_ptr, columns, eps,
    CENTER: tl.constexpr, RESIDUAL: tl.constexpr, BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out = normalise(x + residual) * weight + bias. Grid: rows. mean and scale (1 / deviation) are float32 [rows]."""
    row = tl.program_id(0).to(tl.int64)
    col = tl.arange(0, BLOCK)
    inside = col < columns
    x = tl.load(x_ptr + row * columns + col, mask=inside, other=0.0).to(tl.float32)
    if RESIDUAL:
        x += tl.load(residual_ptr + row * columns + col, mask=inside, other=0.0).to(tl.float32)
        rounded = x.to(total_ptr.dtype.element_ty)
        tl.store(total_ptr + row * columns + col, rounded, mask=inside)
        x = rounded.to(tl.float32)
    if CENTER:
        mean = tl.sum(x, 0) / columns
        x = tl.where(inside, x - mean, 0.0)
        tl.store(mean_ptr + row, mean)
    scale = tl.rsqrt(tl.sum(x * x, 0) / columns + eps)
    tl.store(scale_ptr + row, scale)
    out = x * scale * tl.load(weight_ptr + col, mask=inside, other=0.0).to(tl.float32)
    if BIAS:
        out += tl.load(bias_ptr + col, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * columns + col, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def norm_backward(
    dout_ptr, dtotal_ptr, total_ptr, weight_ptr, mean_ptr, scale_ptr, dx_ptr, dresidual_ptr, dweight_ptr, dbias_ptr,
    rows, columns, CENTER: tl.constexpr, DTOTAL: tl.constexpr, BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Grid: P programs; program p takes rows p, p + P, ... in order and writes its partial dweight and dbias [P, C].

    With n the normalised row and g = dout * weight: dx = scale * (g - n * mean(g * n) [- mean(g)]) + dtotal. The
    residual's gradient is the same; it is written where its dtype is another.
    """
    col = tl.arange(0, BLOCK)
    inside = col < columns
    weight = tl.load(weight_ptr + col, mask=inside, other=0.0).to(tl.float32)
    dweight = tl.zeros([BLOCK], dtype=tl.float32)
    dbias = tl.zeros([BLOCK], dtype=tl.float32)
    for number in range(tl.program_id(0), rows, tl.num_programs(0)):
        row = tl.cast(number, tl.int64)
        x = tl.load(total_ptr + row * columns + col, mask=inside, other=0.0).to(tl.float32)
        dout = tl.load(dout_ptr + row * columns + col, mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(scale_ptr + row)
        if CENTER:
            x = tl.where(inside, x - tl.load(mean_ptr + row), 0.0)
        normal = x * scale
        gradient = dout * weight
        dx = gradient - normal * (tl.sum(gradient * normal, 0) / columns)
        if CENTER:
            dx -= tl.sum(gradient, 0) / columns
        dx *= scale
        if DTOTAL:
            dx += tl.load(dtotal_ptr + row * columns + col, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx_ptr + row * columns + col, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        if dresidual_ptr is not None:
            tl.store(dresidual_ptr + row * columns + col, dx.to(dresidual_ptr.dtype.element_ty), mask=inside)
        dweight += dout * normal
        dbias += dout
    place = tl.program_id(0).to(tl.int64) * columns + col
    tl.store(dweight_ptr + place, dweight, mask=inside)
    if BIAS:
        tl.store(dbias_ptr + place, dbias, mask=inside)


def _block(columns: int) -> int:
    return max(16, triton.next_power_of_2(columns))


@torch.library.custom_op("isoflop::norm", mutates_args=())
def norm_op(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    center: bool,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(out, x + residual or empty, mean or empty, scale). x and residual are taken as rows of their last dimension.
    out_dtype: of out, None for that of the sum."""
    x = x.contiguous()
    columns = x.shape[-1]
    rows = x.numel() // columns
    dtype = sum_dtype(x, residual)
    out = torch.empty_like(x, dtype=out_dtype or dtype)
    total = torch.empty_like(x, dtype=dtype) if residual is not None else x.new_empty(0, dtype=dtype)
    mean = torch.empty(rows if center else 0, dtype=torch.float32, device=x.device)
    scale = torch.empty(rows, dtype=torch.float32, device=x.device)
    if rows:
        launch(
            norm_forward,
            rows,
            (
                x, None if residual is None else residual.contiguous(), weight, bias, out, total, mean, scale,
                columns, eps,
            ),
            {
                "CENTER": center, "RESIDUAL": residual is not None, "BIAS": bias is not None, "BLOCK": _block(columns),
            },
            x,
            row_warps(columns),
        )  # fmt: skip
    return out, total, mean, scale


@norm_op.register_fake
def _(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    center: bool,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, dtype = x.numel() // x.shape[-1], sum_dtype(x, residual)
    return (
        x.new_empty(x.shape, dtype=out_dtype or dtype),
        x.new_empty(x.shape if residual is not None else 0, dtype=dtype),
        x.new_empty(rows if center else 0, dtype=torch.float32),
        x.new_empty(rows, dtype=torch.float32),
    )


@torch.library.custom_op("isoflop::norm_backward", mutates_args=())
def norm_backward_op(
    dout: Tensor, dtotal: Tensor | None, total: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, center: bool,
    has_bias: bool, x_dtype: torch.dtype, residual_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(dx, the same in the residual's dtype or, if that is x's, empty, dweight, dbias or empty); the latter two are
    float32 sums in a fixed order."""
    total = total.contiguous()
    columns = total.shape[-1]
    rows = total.numel() // columns
    programs = min(rows, PARTIAL_ROWS)
    dx = torch.empty_like(total, dtype=x_dtype)
    mixed = x_dtype != residual_dtype
    dresidual = total.new_empty(total.shape if mixed else 0, dtype=residual_dtype)
    partial = torch.empty((2 if has_bias else 1, programs, columns), dtype=torch.float32, device=total.device)
    if rows:
        launch(
            norm_backward,
            programs,
            (
                dout.contiguous(), None if dtotal is None else dtotal.contiguous(), total, weight, mean, scale, dx,
                dresidual if mixed else None, partial[0], partial[1] if has_bias else None, rows, columns,
            ),
            {"CENTER": center, "DTOTAL": dtotal is not None, "BIAS": has_bias, "BLOCK": _block(columns)},
            total,
            row_warps(columns),
        )  # fmt: skip
    sums = partial.sum(1)
    return dx, dresidual, sums[0].clone(), sums[1].clone() if has_bias else partial.new_empty(0)


@norm_backward_op.register_fake
def _(
    dout: Tensor, dtotal: Tensor | None, total: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, center: bool,
    has_bias: bool, x_dtype: torch.dtype, residual_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    sums = total.new_empty(total.shape[-1], dtype=torch.float32)
    return (
        total.new_empty(total.shape, dtype=x_dtype),
        total.new_empty(total.shape if x_dtype != residual_dtype else 0, dtype=residual_dtype),
        sums,
        torch.empty_like(sums) if has_bias else sums.new_empty(0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, residual, weight, bias, _, center, _ = inputs
    _, total, mean, scale = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x if residual is None else total, weight, mean, scale)
    ctx.center, ctx.x_dtype = center, x.dtype
    ctx.residual_dtype = None if residual is None else residual.dtype
    ctx.bias_dtype = None if bias is None else bias.dtype


def _backward(ctx: Any, dout: Tensor | None, dtotal: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    total, weight, mean, scale = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(total)
    if ctx.residual_dtype is None:
        dtotal = None
    has_bias = ctx.bias_dtype is not None
    dx, dresidual, dweight, dbias = _run_backward(
        dout, dtotal, total, weight, mean, scale, ctx.center, has_bias, ctx.x_dtype, ctx.residual_dtype or ctx.x_dtype
    )
    if ctx.residual_dtype is None:
        dresidual = None
    elif ctx.residual_dtype == ctx.x_dtype:
        dresidual = dx
    return dx, dresidual, dweight.to(weight.dtype), dbias.to(ctx.bias_dtype) if has_bias else None, None, None, None


_run_backward = direct(norm_backward_op)
run_norm = direct(norm_op, _backward, _setup_context)  # as norm_op, by position
