"""Cross-entropy as PyTorch operators: of given logits, and fused with the linear layer that makes them.

Their bodies run with autocast off: the dtypes are settled before.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from kernels.backends import without_autocast
from kernels.direct import direct
from kernels.loss.chunks import rows_per_chunk
from kernels.loss.reference import LossOptions


def _compute(
    use_triton: bool, logits: Tensor, targets: Tensor, options: LossOptions, losses: Tensor, gradient: Tensor | None,
    upstream: Tensor | None = None,
) -> None:  # fmt: skip
    if use_triton:
        from kernels.loss.triton import triton_loss as compute
    else:
        from kernels.loss.eager import eager_loss as compute
    compute(logits, targets, options, losses, gradient, upstream)


def _losses(logits: Tensor, rows: int) -> Tensor:
    """For total, cross-entropy and z term of every row."""
    return torch.empty((3, rows), dtype=_sum_dtype(logits), device=logits.device)


def _sums(losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return losses[0].sum(), losses[1].sum(), losses[2].sum()


def _sum_dtype(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


@torch.library.custom_op("isoflop::cross_entropy", mutates_args=())
def cross_entropy_op(
    logits: Tensor, targets: Tensor, ignore_index: int, label_smoothing: float, z_loss: float, softcap: float,
    use_triton: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(total, plain, z term), sums over the targets of logits [N, V]."""
    options = LossOptions(ignore_index, label_smoothing, z_loss, softcap)
    losses = _losses(logits, len(logits))
    with without_autocast(logits.device):
        _compute(use_triton, logits, targets, options, losses, None)
        return _sums(losses)


@cross_entropy_op.register_fake
def _(logits: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(logits.new_empty((), dtype=_sum_dtype(logits)) for _ in range(3))  # type: ignore[return-value]


@torch.library.custom_op("isoflop::cross_entropy_backward", mutates_args=())
def cross_entropy_backward_op(
    dtotal: Tensor, logits: Tensor, targets: Tensor, ignore_index: int, label_smoothing: float, z_loss: float,
    softcap: float, use_triton: bool,
) -> Tensor:  # fmt: skip
    options = LossOptions(ignore_index, label_smoothing, z_loss, softcap)
    gradient = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    with without_autocast(logits.device):
        _compute(use_triton, logits, targets, options, _losses(logits, len(logits)), gradient, dtotal)
    return gradient


@cross_entropy_backward_op.register_fake
def _(dtotal: Tensor, logits: Tensor, *_: Any) -> Tensor:
    return logits.new_empty(logits.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:2])
    ctx.options = inputs[2:]
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, dtotal: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    gradient = None if dtotal is None else _run_backward(dtotal, *ctx.saved_tensors, *ctx.options)
    return (gradient, *[None] * 6)


_run_backward = direct(cross_entropy_backward_op)
run_cross_entropy = direct(cross_entropy_op, _backward, _setup)  # as cross_entropy_op, by position


@torch.library.custom_op("isoflop::linear_cross_entropy", mutates_args=())
def linear_cross_entropy_op(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, ignore_index: int, label_smoothing: float,
    z_loss: float, softcap: float, columns: int, chunk: int, needs_gradient: bool, use_triton: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(total, plain, z term, dhidden, dweight, dbias) of hidden [N, E], weight [V, E], bias [V].

    The gradients of the total are formed here, chunk by chunk while its logits exist, so that logits are computed once
    and never whole; the backward pass only scales them. They are of size 0 where not needed. columns: of the buffer
    that every chunk writes its logits to, and rows of the copy of the matrix; from V on logits and gradients are 0.
    """
    options = LossOptions(ignore_index, label_smoothing, z_loss, softcap)
    (rows, width), classes = hidden.shape, weight.shape[0]
    size = rows_per_chunk(rows, columns, hidden.element_size(), hidden.device.type, chunk)
    losses, wide = _losses(hidden, rows), _sum_dtype(hidden)
    dhidden = hidden.new_empty(hidden.shape if needs_gradient else 0)
    dweight = torch.empty((columns, width) if needs_gradient else 0, dtype=wide, device=weight.device)
    dbias = torch.zeros(columns if needs_gradient and bias is not None else 0, dtype=wide, device=weight.device)
    with without_autocast(hidden.device):
        matrix = _padded(weight, columns, hidden.dtype)
        shift = None if bias is None else _padded(bias, columns, hidden.dtype)
        buffer = hidden.new_empty(min(size, rows), columns)
        if rows == 0:
            dweight.zero_()
        for first in range(0, rows, size):
            part, places = hidden[first : first + size], targets[first : first + size]
            logits = buffer[: len(part)]
            if shift is None:
                torch.mm(part, matrix.t(), out=logits)
            else:
                torch.addmm(shift, part, matrix.t(), out=logits)
            of_rows = losses[:, first : first + size]
            _compute(use_triton, logits[:, :classes], places, options, of_rows, logits if needs_gradient else None)
            if needs_gradient:  # logits now holds its own gradient
                torch.mm(logits, matrix, out=dhidden[first : first + size])
                _add_product(dweight, logits.t(), part, first=first == 0)
                if bias is not None:
                    dbias += logits.sum(0, dtype=wide)
        return *_sums(losses), dhidden, dweight[:classes], dbias[:classes]


def _padded(given: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """In this dtype and with zeros below, up to this number of rows; itself where it is so already."""
    if rows == given.shape[0]:
        return given.to(dtype)
    padded = given.new_empty((rows, *given.shape[1:]), dtype=dtype)
    padded[: len(given)].copy_(given)
    padded[len(given) :].zero_()
    return padded


def _add_product(total: Tensor, a: Tensor, b: Tensor, *, first: bool) -> None:
    """total += a b, or total = a b for the first: added up in the dtype of total, within the product where it can."""
    if total.dtype == a.dtype:
        torch.addmm(total, a, b, beta=0 if first else 1, out=total)
    elif _adds_wide(a.device.type, a.dtype):
        torch.addmm(total, a, b, out_dtype=total.dtype, beta=0 if first else 1, out=total)
    elif first:
        total.copy_(a @ b)
    else:
        total += a @ b


@functools.cache
def _adds_wide(device: str, dtype: torch.dtype) -> bool:
    """Whether PyTorch adds a product of half precision to a float32 matrix without rounding it before: on CUDA from
    2.11 or so on, and not on a CPU."""
    a, total = torch.zeros(16, 16, device=device, dtype=dtype), torch.zeros(16, 16, device=device)
    try:
        torch.addmm(total, a, a, out_dtype=total.dtype, out=total)
    except (RuntimeError, TypeError):
        return False
    return True


@linear_cross_entropy_op.register_fake
def _(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, ignore_index: int, label_smoothing: float,
    z_loss: float, softcap: float, columns: int, chunk: int, needs_gradient: bool, use_triton: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    wide = _sum_dtype(hidden)
    total, plain, squared = (hidden.new_empty((), dtype=wide) for _ in range(3))
    dbias = weight.shape[0] if needs_gradient and bias is not None else 0
    return (
        total,
        plain,
        squared,
        hidden.new_empty(hidden.shape if needs_gradient else 0),
        hidden.new_empty(weight.shape if needs_gradient else 0, dtype=wide),
        hidden.new_empty(dbias, dtype=wide),
    )


def _setup_linear(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[3:])
    ctx.mark_non_differentiable(*output[1:])
    _, weight, bias = inputs[:3]
    ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)


def _backward_linear(ctx: Any, dtotal: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if dtotal is None:
        return (None,) * 12
    dhidden, dweight, dbias = ctx.saved_tensors
    weight_dtype, bias_dtype = ctx.dtypes
    return (
        dhidden * dtotal,  # a number: the product keeps the dtype of dhidden
        (dweight * dtotal).to(weight_dtype),
        None if bias_dtype is None else (dbias * dtotal).to(bias_dtype),
        *[None] * 9,
    )


run_linear_cross_entropy = direct(linear_cross_entropy_op, _backward_linear, _setup_linear)
