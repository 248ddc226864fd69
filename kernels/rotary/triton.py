"""Rotary embedding, all heads of a token in one program. Importing this imports Triton."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.direct import direct
from kernels.launcher import launch


@triton.jit
def rotate_tokens(
    x_ptr, cos_ptr, sin_ptr, out_ptr, stride_xb, stride_xs, stride_xh, stride_xd, stride_table, length, heads, head_dim,
    half, sign, INTERLEAVED: tl.constexpr, PARTIAL: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Grid: (batch * length, tiles of heads). sign: 1 forward, -1 backward (the inverse turn). out is contiguous."""
    token = tl.program_id(0).to(tl.int64)
    batch, place = token // length, token % length
    head = (tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H))[:, None]
    pair = tl.arange(0, BLOCK_R)
    inside = (head < heads) & (pair < half)[None, :]
    table = batch * stride_table + place * half + pair
    cos = tl.load(cos_ptr + table, mask=pair < half, other=0.0).to(tl.float32)[None, :]
    sin = tl.load(sin_ptr + table, mask=pair < half, other=0.0).to(tl.float32)[None, :] * sign
    pair = pair.to(tl.int64)  # a head's entries may lie far apart
    first = 2 * pair if INTERLEAVED else pair
    second = first + 1 if INTERLEAVED else pair + half
    x_base = x_ptr + batch * stride_xb + place * stride_xs + head.to(tl.int64) * stride_xh
    out_base = out_ptr + token * heads * head_dim + head.to(tl.int64) * head_dim
    a = tl.load(x_base + first[None, :] * stride_xd, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x_base + second[None, :] * stride_xd, mask=inside, other=0.0).to(tl.float32)
    kind = out_ptr.dtype.element_ty
    tl.store(out_base + first[None, :], (a * cos - b * sin).to(kind), mask=inside)
    tl.store(out_base + second[None, :], (b * cos + a * sin).to(kind), mask=inside)
    if PARTIAL:
        rest = (2 * half + tl.arange(0, BLOCK_D)[None, :]).to(tl.int64)
        passed = (head < heads) & (rest < head_dim)
        tl.store(out_base + rest, tl.load(x_base + rest * stride_xd, mask=passed, other=0.0), mask=passed)


def _launch(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, sign: float) -> Tensor:
    batch, length, heads, head_dim = x.shape
    half = cos.shape[-1]
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block_r = triton.next_power_of_2(half)
    block_h = min(triton.next_power_of_2(heads), max(1, 4096 // block_r))
    if out.numel():
        launch(
            rotate_tokens,
            (batch * length, triton.cdiv(heads, block_h)),
            (
                x, cos, sin, out, *x.stride(), 0 if cos.shape[0] == 1 else cos.stride(0), length, heads, head_dim,
                half, sign,
            ),
            {
                "INTERLEAVED": interleaved, "PARTIAL": 2 * half < head_dim, "BLOCK_H": block_h, "BLOCK_R": block_r,
                "BLOCK_D": triton.next_power_of_2(max(1, head_dim - 2 * half)),
            },
            x,
            warps=4,
        )  # fmt: skip
    return out


@torch.library.custom_op("isoflop::rotary", mutates_args=())
def rotary_op(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """cos, sin: contiguous [B or 1, S, R / 2]. Returns a contiguous tensor."""
    return _launch(x, cos, sin, interleaved, 1.0)


@torch.library.custom_op("isoflop::rotary_backward", mutates_args=())
def rotary_backward_op(dout: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    return _launch(dout, cos, sin, interleaved, -1.0)


@rotary_op.register_fake
def _(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    return x.new_empty(x.shape)


@rotary_backward_op.register_fake
def _(dout: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    return dout.new_empty(dout.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1], inputs[2])
    ctx.interleaved = inputs[3]


def _backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    return _run_backward(dout, *ctx.saved_tensors, ctx.interleaved), None, None, None


_run_backward = direct(rotary_backward_op)
run_rotary = direct(rotary_op, _backward, _setup_context)  # as rotary_op, by position
