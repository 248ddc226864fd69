"""The kernels as PyTorch operators: launch, fake shapes, autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.attention.triton.launches import (
    Call,
    launch_ddense,
    launch_delta,
    launch_dkdv,
    launch_dq,
    launch_dtable,
    launch_forward,
)
from kernels.attention.triton.ordered_launch import launch_ordered, tile_of
from kernels.direct import direct


def _dsink(sink: Tensor, lse: Tensor, delta: Tensor, dlse: Tensor | None, rest: Tensor) -> Tensor:
    """[H]. The sink is a key whose value is 0, so that its dS = -P (rowsum(P dP) - dLSE).

    delta is that bracket from the rounded output, whose error would add up over the rows: the exact one comes back from
    rest = rowsum(dS) = rowsum(P dP) - delta (1 - P_sink).
    """
    weight = torch.exp(sink.float().view(1, -1, 1) - lse)
    bracket = rest + delta * (1 - weight)
    if dlse is not None:
        bracket = bracket - dlse
    return -torch.where(lse == -torch.inf, 0.0, weight * bracket).sum((0, 2)).to(sink.dtype)


@torch.library.custom_op("isoflop::attention", mutates_args=())
def attention_op(
    q: Tensor, k: Tensor, v: Tensor, values: Tensor | None, table: Tensor | None, buckets: Tensor | None,
    dense: Tensor | None, q_segments: Tensor | None, k_segments: Tensor | None, q_reach: Tensor | None,
    k_reach: Tensor | None, kv_lens: Tensor | None, q_order: Tensor | None, k_order: Tensor | None,
    sink: Tensor | None, seed: Tensor | None, dropout_rows: Tensor | None, left: int, right: int, strict: bool,
    softcap: float, dropout_p: float, scale: float, ordered: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(out [B, Sq, H, D], lse float32 [B, H, Sq]). left, right: NO_BOUND for none. reach: int32 [B, 3, S]. ordered: the
    backward pass takes one walk, not two. values: ALiBi's slopes or, beside a table, `buckets.bucket_values` of it."""
    return launch_forward(
        Call(
            q, k, v, values, table, buckets, dense, q_segments, k_segments, q_reach, k_reach, kv_lens, q_order,
            k_order, sink, seed, dropout_rows, left, right, strict, softcap, dropout_p, scale,
        )
    )  # fmt: skip


@attention_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    batch, q_len, heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((batch, heads, q_len), dtype=torch.float32)


def _gradients(
    dout: Tensor, dlse: Tensor | None, out: Tensor, lse: Tensor, needs_table: bool, needs_dense: bool,
    *arguments: Any,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Of q, k, v, table, dense and sink; None where not needed. arguments: those of the forward pass."""
    *of_call, ordered = arguments
    c = Call(*of_call)
    delta = launch_delta(c, out, lse, dout, None if dlse is None else dlse.contiguous())
    tile = tile_of(c) if ordered else None
    if tile is not None:
        dq, rest, dk, dv = launch_ordered(c, tile, lse, delta, dout)
    else:
        dq, rest = launch_dq(c, lse, delta, dout)
        dk, dv = launch_dkdv(c, lse, delta, dout)
    dtable = launch_dtable(c, lse, delta, dout) if needs_table else None
    ddense = launch_ddense(c, lse, delta, dout) if needs_dense else None
    dsink = None if c.sink is None or rest is None else _dsink(c.sink, lse, delta, dlse, rest)
    return dq, dk, dv, dtable, ddense, dsink


@torch.library.custom_op("isoflop::attention_backward", mutates_args=())
def attention_backward_op(
    dout: Tensor, dlse: Tensor | None, out: Tensor, lse: Tensor, needs_table: bool, needs_dense: bool,
    q: Tensor, k: Tensor, v: Tensor, values: Tensor | None, table: Tensor | None, buckets: Tensor | None,
    dense: Tensor | None, q_segments: Tensor | None, k_segments: Tensor | None, q_reach: Tensor | None,
    k_reach: Tensor | None, kv_lens: Tensor | None, q_order: Tensor | None, k_order: Tensor | None,
    sink: Tensor | None, seed: Tensor | None, dropout_rows: Tensor | None, left: int, right: int, strict: bool,
    softcap: float, dropout_p: float, scale: float, ordered: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v, table, dense and sink; of size 0 where not needed."""
    found = _gradients(
        dout, dlse, out, lse, needs_table, needs_dense, q, k, v, values, table, buckets, dense, q_segments, k_segments,
        q_reach, k_reach, kv_lens, q_order, k_order, sink, seed, dropout_rows, left, right, strict, softcap, dropout_p,
        scale, ordered,
    )  # fmt: skip
    return tuple(q.new_empty(0) if one is None else one for one in found)  # type: ignore[return-value]


@attention_backward_op.register_fake
def _(
    dout: Tensor, dlse: Tensor | None, out: Tensor, lse: Tensor, needs_table: bool, needs_dense: bool,
    q: Tensor, k: Tensor, v: Tensor, values: Tensor | None, table: Tensor | None, buckets: Tensor | None,
    dense: Tensor | None, q_segments: Tensor | None, k_segments: Tensor | None, q_reach: Tensor | None,
    k_reach: Tensor | None, kv_lens: Tensor | None, q_order: Tensor | None, k_order: Tensor | None,
    sink: Tensor | None, *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    def like(tensor: Tensor | None, needed: bool) -> Tensor:
        return tensor.new_empty(tensor.shape) if tensor is not None and needed else q.new_empty(0)

    return (
        q.new_empty(q.shape),
        k.new_empty(k.shape),
        v.new_empty(v.shape),
        like(table, needs_table),
        like(dense, needs_dense),
        like(sink, True),
    )


_TENSORS = 17  # leading arguments of attention_op that are tensors or None


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:_TENSORS], *output)
    ctx.numbers = inputs[_TENSORS:]


def _backward(ctx: Any, dout: Tensor | None, dlse: Tensor | None) -> tuple[Tensor | None, ...]:
    *tensors, out, lse = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(out)
    needs = ctx.needs_input_grad
    dq, dk, dv, dtable, ddense, dsink = _run_backward(dout, dlse, out, lse, needs[4], needs[6], *tensors, *ctx.numbers)
    gradients: list[Tensor | None] = [None] * (_TENSORS + len(ctx.numbers))
    gradients[0:3] = dq, dk, dv
    gradients[4] = dtable if needs[4] else None
    gradients[6] = ddense if needs[6] else None
    gradients[14] = dsink if needs[14] else None
    return tuple(gradients)


_run_backward = direct(attention_backward_op, function=_gradients)
run_attention = direct(attention_op, _backward, _setup_context)  # as attention_op, by position
