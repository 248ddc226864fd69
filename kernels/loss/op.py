"""Cross-entropy as PyTorch operators: of given logits, and fused with the linear layer that makes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.loss.reference import LossOptions

LOGITS_BYTES = 1 << 28  # a chunk of logits takes about this much, and never the whole batch's


def rows_per_chunk(rows: int, classes: int, element_bytes: int, chunk: int) -> int:
    """`chunk` tokens if given, else a power of two from 128 on whose logits take up to LOGITS_BYTES, but at most an
    eighth of the rows (and 128), so that memory falls for small vocabularies too."""
    if chunk > 0:
        return chunk
    fitting = max(1, LOGITS_BYTES // max(1, classes * element_bytes))
    size = max(128, min(1 << (fitting.bit_length() - 1), 1 << max(0, (rows // 8)).bit_length()))
    return min(size, max(1, rows))


def _compute(
    use_triton: bool, logits: Tensor, targets: Tensor, options: LossOptions, gradient: Tensor | None,
    upstream: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    if use_triton:
        from kernels.loss.triton import triton_loss

        return triton_loss(logits, targets, options, gradient, upstream)
    from kernels.loss.eager import eager_loss

    return eager_loss(logits, targets, options, gradient, upstream)


def _sum_dtype(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


@torch.library.custom_op("isoflop::cross_entropy", mutates_args=())
def cross_entropy_op(
    logits: Tensor, targets: Tensor, ignore_index: int, label_smoothing: float, z_loss: float, softcap: float,
    use_triton: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(total, plain, z term), sums over the targets of logits [N, V]."""
    options = LossOptions(ignore_index, label_smoothing, z_loss, softcap)
    total, plain, squared = _compute(use_triton, logits, targets, options, None)
    return total.clone(), plain.clone(), squared.clone()


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
    _compute(use_triton, logits, targets, options, gradient, dtotal)
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
    gradient = None if dtotal is None else cross_entropy_backward_op(dtotal, *ctx.saved_tensors, *ctx.options)
    return (gradient, *[None] * 6)


cross_entropy_op.register_autograd(_backward, setup_context=_setup)


@torch.library.custom_op("isoflop::linear_cross_entropy", mutates_args=())
def linear_cross_entropy_op(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, ignore_index: int, label_smoothing: float,
    z_loss: float, softcap: float, chunk: int, needs_gradient: bool, use_triton: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(total, plain, z term, dhidden, dweight, dbias) of hidden [N, E], weight [V, E], bias [V].

    The gradients of the total are formed here, chunk by chunk while its logits exist, so that logits are computed once
    and never whole; the backward pass only scales them. They are of size 0 where not needed.
    """
    options = LossOptions(ignore_index, label_smoothing, z_loss, softcap)
    rows, classes = hidden.shape[0], weight.shape[0]
    size = rows_per_chunk(rows, classes, hidden.element_size(), chunk)
    wide = _sum_dtype(hidden)
    sums = torch.zeros(3, dtype=wide, device=hidden.device)
    dhidden = hidden.new_empty(hidden.shape if needs_gradient else 0)
    dweight = torch.zeros(weight.shape if needs_gradient else 0, dtype=wide, device=weight.device)
    dbias = torch.zeros(classes if needs_gradient and bias is not None else 0, dtype=wide, device=weight.device)
    matrix = weight.to(hidden.dtype)
    for first in range(0, rows, size):
        part, places = hidden[first : first + size], targets[first : first + size]
        logits = part @ matrix.t()
        if bias is not None:
            logits += bias.to(logits.dtype)
        sums += torch.stack(_compute(use_triton, logits, places, options, logits if needs_gradient else None))
        if needs_gradient:  # logits now holds its own gradient
            torch.mm(logits, matrix, out=dhidden[first : first + size])
            dweight += logits.t() @ part
            if bias is not None:
                dbias += logits.sum(0, dtype=wide)
    return sums[0].clone(), sums[1].clone(), sums[2].clone(), dhidden, dweight, dbias


@linear_cross_entropy_op.register_fake
def _(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, ignore_index: int, label_smoothing: float,
    z_loss: float, softcap: float, chunk: int, needs_gradient: bool, use_triton: bool,
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
        return (None,) * 11
    dhidden, dweight, dbias = ctx.saved_tensors
    weight_dtype, bias_dtype = ctx.dtypes
    return (
        dhidden * dtotal.to(dhidden.dtype) if dhidden.dtype == dtotal.dtype else (dhidden * dtotal).to(dhidden.dtype),
        (dweight * dtotal).to(weight_dtype),
        None if bias_dtype is None else (dbias * dtotal).to(bias_dtype),
        *[None] * 8,
    )


linear_cross_entropy_op.register_autograd(_backward_linear, setup_context=_setup_linear)
