"""The grouped product as PyTorch operators, so that compilers take it whole and counters know its FLOPs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kernels.backends import without_autocast

ALIGNMENT = 16  # bytes that a row's length must be a multiple of for torch.nn.functional.grouped_mm


def native(x: Tensor, weights: Tensor) -> bool:
    """Whether PyTorch's grouped product computes it: bf16 on CUDA from compute capability 8.0 on, with rows that are
    multiples of 16 bytes. On a CPU it is a loop, too, which takes no gradient of stride 0, nor any other row length."""
    if x.dtype != torch.bfloat16 or x.device.type != "cuda" or len(x) == 0:
        return False
    aligned = all(size * x.element_size() % ALIGNMENT == 0 for size in weights.shape[1:])
    return aligned and torch.cuda.get_device_capability(x.device) >= (8, 0)


@torch.library.custom_op("isoflop::grouped_linear", mutates_args=())
def grouped_linear_op(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """x [T, in], weights [E, out, in], ends int32 [E]: [T, out]."""
    if native(x, weights):
        out = torch.nn.functional.grouped_mm(x.contiguous(), weights.contiguous().transpose(1, 2), offs=ends)
        return _without_rest(out, ends)
    out = x.new_empty(len(x), weights.shape[1])
    end = 0
    for group, begin, end in _groups(ends):
        _product(x[begin:end], weights[group].t(), out[begin:end])
    out[end:].zero_()
    return out


@grouped_linear_op.register_fake
def _(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weights.shape[1])


@torch.library.custom_op("isoflop::grouped_linear_backward", mutates_args=())
def grouped_linear_backward_op(
    dout: Tensor, x: Tensor, weights: Tensor, ends: Tensor, of_x: bool, of_weights: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of x and of weights; of size 0 where not needed."""
    dx, dweights = x.new_empty(x.shape if of_x else 0), weights.new_empty(weights.shape if of_weights else 0)
    if native(x, weights):
        dout, x = dout.contiguous(), x.contiguous()
        if of_x:
            dx = _without_rest(torch.nn.functional.grouped_mm(dout, weights.contiguous(), offs=ends), ends)
        if of_weights:
            dweights = torch.nn.functional.grouped_mm(dout.t(), x, offs=ends).contiguous()
        return dx, dweights
    filled, end = set(), 0
    for group, begin, end in _groups(ends):
        filled.add(group)
        if of_x:
            _product(dout[begin:end], weights[group], dx[begin:end])
        if of_weights:
            _product(dout[begin:end].t(), x[begin:end], dweights[group])
    if of_x:
        dx[end:].zero_()
    for group in range(len(dweights)):
        if group not in filled:
            dweights[group].zero_()
    return dx, dweights


@grouped_linear_backward_op.register_fake
def _(dout: Tensor, x: Tensor, weights: Tensor, ends: Tensor, of_x: bool, of_weights: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if of_x else 0), weights.new_empty(weights.shape if of_weights else 0)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    of_x, of_weights, _ = ctx.needs_input_grad
    dx, dweights = grouped_linear_backward_op(dout, *ctx.saved_tensors, of_x, of_weights)
    return dx if of_x else None, dweights if of_weights else None, None


grouped_linear_op.register_autograd(_backward, setup_context=_setup_context)


def _groups(ends: Tensor) -> Iterator[tuple[int, int, int]]:
    """(group, its first row, the row behind its last) of every group that has rows."""
    begin = 0
    for group, end in enumerate(ends.tolist()):
        if end > begin:
            yield group, begin, end
        begin = end


def _product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out = a b, where the CPU has no instructions for halves by way of fp32: up to ninety times as fast."""
    with without_autocast(a.device):  # also in a backward pass that is called inside it
        if a.device.type == "cpu" and a.element_size() == 2 and not _has_bf16():
            out.copy_(a.float() @ b.float())
        else:
            torch.mm(a, b, out=out)


@functools.cache
def _has_bf16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _without_rest(rows: Tensor, ends: Tensor) -> Tensor:
    """Zeros in the rows behind the last group, which PyTorch leaves as they are in memory."""
    behind = torch.arange(len(rows), device=rows.device) >= ends[-1]
    return rows.masked_fill_(behind.unsqueeze(1), 0.0)
