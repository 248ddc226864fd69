"""SwiGLU and GeGLU and their gradients, element by element. Importing this imports Triton."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.device import LOG2E, tanh
from kernels.direct import direct
from kernels.launcher import launch

CODES = {"silu": 0, "gelu": 1, "gelu_tanh": 2}
BLOCK = 1024


@triton.jit
def activate(x, KIND: tl.constexpr):
    """(activation, its derivative) at x, float32."""
    if KIND == 0:
        gate = 1.0 / (1.0 + tl.exp2(-x * LOG2E))
        value = x * gate
        slope = gate * (1.0 + x * (1.0 - gate))
    elif KIND == 1:
        share = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
        value = x * share
        slope = share + x * 0.3989422804014327 * tl.exp2(-0.5 * x * x * LOG2E)
    else:
        x2 = x * x
        turn = tanh(x * (0.7978845608028654 * (1.0 + 0.044715 * x2)))
        value = 0.5 * x * (1.0 + turn)
        slope = 0.5 * (1.0 + turn) + 0.5 * x * (1.0 - turn * turn) * (0.7978845608028654 * (1.0 + 0.134145 * x2))
    return value, slope


@triton.jit
def gated_forward(gate_ptr, up_ptr, out_ptr, stride_gate, stride_up, columns, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """Grid: (rows, tiles of columns). Rows of gate and up may lie apart; out is contiguous."""
    row = tl.program_id(0).to(tl.int64)
    col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = col < columns
    gate = tl.load(gate_ptr + row * stride_gate + col, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * stride_up + col, mask=inside, other=0.0).to(tl.float32)
    value, _ = activate(gate, KIND)
    tl.store(out_ptr + row * columns + col, (value * up).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gated_backward(
    dout_ptr, gate_ptr, up_ptr, dgate_ptr, dup_ptr, stride_dout, stride_gate, stride_up, columns,
    KIND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = col < columns
    dout = tl.load(dout_ptr + row * stride_dout + col, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + row * stride_gate + col, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * stride_up + col, mask=inside, other=0.0).to(tl.float32)
    value, slope = activate(gate, KIND)
    tl.store(dgate_ptr + row * columns + col, (dout * up * slope).to(dgate_ptr.dtype.element_ty), mask=inside)
    tl.store(dup_ptr + row * columns + col, (dout * value).to(dup_ptr.dtype.element_ty), mask=inside)


def _rows(tensor: Tensor) -> Tensor:
    """[rows, columns] with neighbouring columns, a view where the strides allow it."""
    flat = tensor.reshape(-1, tensor.shape[-1])
    return flat if flat.stride(1) == 1 else flat.contiguous()


@torch.library.custom_op("isoflop::gated", mutates_args=())
def gated_op(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    g, u = _rows(gate), _rows(up)
    rows, columns = g.shape
    if out.numel():
        grid, arguments = (rows, triton.cdiv(columns, BLOCK)), (g, u, out, g.stride(0), u.stride(0), columns)
        launch(gated_forward, grid, arguments, {"KIND": CODES[activation], "BLOCK": BLOCK}, gate, warps=4)
    return out


@torch.library.custom_op("isoflop::gated_backward", mutates_args=())
def gated_backward_op(dout: Tensor, gate: Tensor, up: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    dgate, dup = (torch.empty(gate.shape, dtype=gate.dtype, device=gate.device) for _ in range(2))
    d, g, u = _rows(dout), _rows(gate), _rows(up)
    rows, columns = g.shape
    if dgate.numel():
        grid = (rows, triton.cdiv(columns, BLOCK))
        arguments = (d, g, u, dgate, dup, d.stride(0), g.stride(0), u.stride(0), columns)
        launch(gated_backward, grid, arguments, {"KIND": CODES[activation], "BLOCK": BLOCK}, gate, warps=4)
    return dgate, dup


@gated_op.register_fake
def _(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    return gate.new_empty(gate.shape)


@gated_backward_op.register_fake
def _(dout: Tensor, gate: Tensor, up: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    return gate.new_empty(gate.shape), gate.new_empty(gate.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.activation = inputs[2]


def _backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    return (*_run_backward(dout, *ctx.saved_tensors, ctx.activation), None)


_run_backward = direct(gated_backward_op)
run_gated = direct(gated_op, _backward, _setup_context)  # as gated_op, by position
