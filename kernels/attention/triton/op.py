"""The kernels as PyTorch operators: launch, fake shapes, autograd. Everything here is a function of shapes and strides;
no tensor value is read on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.attention.dropout import threshold
from kernels.attention.triton.backward import attention_delta, attention_dkdv, attention_dq
from kernels.attention.triton.bias_gradient import attention_dense_gradient, attention_table_gradient
from kernels.attention.triton.forward import attention_forward
from kernels.backends import on_device
from kernels.configs import Tile, architecture, attention_tile, block_dim, dkdv_passes, dot_precision

NO_BOUND = -1  # left and right as operator arguments, where None is no bound


def _switches(arguments: Arguments) -> dict[str, Any]:
    a = arguments
    bias = 1 if a.slopes is not None else 2 if a.relative is not None else 3 if a.dense is not None else 0
    return {
        "GROUPS": a.q.shape[2] // a.k.shape[2],
        "HEAD_DIM": a.q.shape[3],
        "BLOCK_D": block_dim(a.q.shape[3]),
        "HAS_LEFT": a.left != NO_BOUND,
        "HAS_RIGHT": a.right != NO_BOUND,
        "BIAS": bias,
        "SEGMENTS": a.q_segments is not None,
        "K_LENS": a.kv_lens is not None,
        "ORDER": 0 if a.q_order is None else 2 if a.strict else 1,
        "SOFTCAP": a.softcap > 0.0,
        "DROPOUT": a.dropout_p > 0.0,
        "PRECISION": dot_precision(architecture(a.q.device), a.q.dtype),
    }


class Arguments:
    """The operator's arguments under their names, with what the launches derive from them."""

    def __init__(
        self,
        q: Tensor, k: Tensor, v: Tensor, slopes: Tensor | None, table: Tensor | None, buckets: Tensor | None,
        dense: Tensor | None, q_segments: Tensor | None, k_segments: Tensor | None, q_reach: Tensor | None,
        k_reach: Tensor | None, kv_lens: Tensor | None, q_order: Tensor | None, k_order: Tensor | None,
        sink: Tensor | None, seed: Tensor | None, dropout_rows: Tensor | None, left: int, right: int, strict: bool,
        softcap: float, dropout_p: float, scale: float,
    ) -> None:  # fmt: skip
        self.q, self.k, self.v = q, k, v
        self.slopes, self.table, self.buckets, self.dense = slopes, table, buckets, dense
        self.q_segments, self.k_segments, self.q_reach, self.k_reach = q_segments, k_segments, q_reach, k_reach
        self.kv_lens, self.q_order, self.k_order = kv_lens, q_order, k_order
        self.sink, self.seed, self.dropout_rows = sink, seed, dropout_rows
        self.left, self.right, self.strict = left, right, strict
        self.softcap, self.dropout_p, self.scale = softcap, dropout_p, scale
        self.batch, self.q_len, self.heads, self.head_dim = q.shape
        self.k_len, self.kv_heads = k.shape[1], k.shape[2]
        # The bucket table as a vector over relative positions: float32 [H, Sq + Sk - 1].
        self.relative = None if table is None or buckets is None else table.float()[buckets.long()].t().contiguous()
        self.switches = _switches(self)

    def tile(self, kernel: str) -> Tile:
        s = self.switches
        heavy = bool(s["DROPOUT"] or s["SOFTCAP"] or s["BIAS"] == 3)
        return attention_tile(kernel, architecture(self.q.device), self.head_dim, self.q.dtype, heavy)

    def scalars(self) -> tuple[Any, ...]:
        keep_scale = 1.0 / (1.0 - self.dropout_p)
        return (self.scale, self.softcap, threshold(self.dropout_p), keep_scale)

    def lengths(self) -> tuple[int, ...]:
        return (self.heads, self.q_len, self.k_len, self.left, self.right)

    def index_strides(self) -> tuple[int, ...]:
        indices = (self.q_segments, self.k_segments, self.kv_lens, self.q_order, self.k_order)
        return tuple(_row_stride(index) for index in indices)

    def bias_strides(self) -> tuple[int, ...]:
        slopes = 0 if self.slopes is None or self.slopes.dim() == 1 else _row_stride(self.slopes)
        return (slopes, *_broadcast_strides(self.dense))

    def launch(
        self, kernel: Any, programs: int, arguments: Sequence[Any], drop: Sequence[str] = (), **more: Any
    ) -> None:
        if programs == 0:
            return
        switches = {name: value for name, value in self.switches.items() if name not in drop}
        with on_device(self.q):
            kernel[(programs,)](*arguments, **switches, **more)


def _row_stride(index: Tensor | None) -> int:
    """Elements from one batch row to the next: 0 where one row serves all."""
    return 0 if index is None or index.shape[0] == 1 else index.stride(0)


def _broadcast_strides(tensor: Tensor | None) -> tuple[int, ...]:
    if tensor is None:
        return (0, 0, 0, 0)
    return tuple(0 if size == 1 else stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _wide(*tensors: Tensor) -> bool:
    """Offsets inside a tile of 256 rows need 64 bits. (Offsets of tiles always have them.)"""
    return any(256 * max(abs(s) for s in t.stride()) >= 2**31 for t in tensors)


def _tiles(length: int, block: int) -> int:
    return -(-length // block)


def _forward(a: Arguments) -> tuple[Tensor, Tensor]:
    q_lo, q_hi = (None, None) if a.q_reach is None else a.q_reach.unbind(0)
    out = torch.empty(a.q.shape, dtype=a.q.dtype, device=a.q.device)
    lse = torch.empty((a.batch, a.heads, a.q_len), dtype=torch.float32, device=a.q.device)
    tile = a.tile("forward")
    a.launch(
        attention_forward,
        a.batch * a.heads * _tiles(a.q_len, tile.block_m),
        (
            a.q, a.k, a.v, out, lse, a.slopes, a.relative, a.dense, a.q_segments, a.k_segments, q_lo, q_hi, a.kv_lens,
            a.q_order, a.k_order, a.sink, a.seed, a.dropout_rows,
            *a.q.stride(), *a.k.stride(), *a.v.stride(), *out.stride(), *a.bias_strides(), *a.index_strides(),
            *a.scalars(), *a.lengths(),
        ),
        SINK=a.sink is not None,
        WIDE=_wide(a.q, a.k, a.v, out),
        BLOCK_M=tile.block_m,
        BLOCK_N=tile.block_n,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )  # fmt: skip
    return out, lse


def _delta(a: Arguments, out: Tensor, lse: Tensor, dout: Tensor, dlse: Tensor | None) -> Tensor:
    delta = torch.empty_like(lse)
    block = 64
    programs = a.batch * a.heads * _tiles(a.q_len, block)
    a.launch(
        attention_delta,
        programs,
        (out, dout, lse, dlse, delta, *out.stride(), *dout.stride(), a.heads, a.q_len),
        drop=[name for name in a.switches if name not in ("HEAD_DIM", "BLOCK_D")],
        HAS_DLSE=dlse is not None,
        WIDE=_wide(out, dout),
        BLOCK_M=block,
        num_warps=4,
    )
    return delta


def _dq(a: Arguments, lse: Tensor, delta: Tensor, dout: Tensor) -> tuple[Tensor, Tensor | None]:
    """dq, and with a sink the row sums of dS over the keys, float32 [B, H, Sq]."""
    q_lo, q_hi = (None, None) if a.q_reach is None else a.q_reach.unbind(0)
    dq = torch.empty(a.q.shape, dtype=a.q.dtype, device=a.q.device)
    rest = None if a.sink is None else torch.empty_like(lse)
    tile = a.tile("dq")
    a.launch(
        attention_dq,
        a.batch * a.heads * _tiles(a.q_len, tile.block_m),
        (
            a.q, a.k, a.v, dout, lse, delta, dq, rest, a.slopes, a.relative, a.dense, a.q_segments, a.k_segments,
            q_lo, q_hi, a.kv_lens, a.q_order, a.k_order, a.seed, a.dropout_rows,
            *a.q.stride(), *a.k.stride(), *a.v.stride(), *dout.stride(), *dq.stride(),
            *a.bias_strides(), *a.index_strides(), *a.scalars(), *a.lengths(),
        ),
        SINK=a.sink is not None,
        WIDE=_wide(a.q, a.k, a.v, dout, dq),
        BLOCK_M=tile.block_m,
        BLOCK_N=tile.block_n,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )  # fmt: skip
    return dq, rest


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


def _dkdv(a: Arguments, lse: Tensor, delta: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
    k_lo, k_hi = (None, None) if a.k_reach is None else a.k_reach.unbind(0)
    dk = torch.empty(a.k.shape, dtype=a.k.dtype, device=a.k.device)
    dv = torch.empty(a.v.shape, dtype=a.v.dtype, device=a.v.device)
    tile = a.tile("dkdv")
    s = a.switches
    for want_dk, want_dv in dkdv_passes(a.head_dim):
        a.launch(
            attention_dkdv,
            a.batch * a.kv_heads * _tiles(a.k_len, tile.block_n),
            (
                a.q, a.k, a.v, dout, lse, delta, dk, dv, a.slopes, a.relative, a.dense, a.q_segments, a.k_segments,
                k_lo, k_hi, a.kv_lens, a.q_order, a.k_order, a.seed, a.dropout_rows,
                *a.q.stride(), *a.k.stride(), *a.v.stride(), *dout.stride(), *dk.stride(), *dv.stride(),
                *a.bias_strides(), *a.index_strides(), *a.scalars(), *a.lengths(),
            ),
            DK=want_dk,
            DV=want_dv,
            FIRST_MASKED=bool(s["HAS_RIGHT"] or s["K_LENS"] or s["SEGMENTS"] or s["ORDER"]),
            WIDE=_wide(a.q, a.k, a.v, dout, dk, dv),
            BLOCK_M=tile.block_m,
            BLOCK_N=tile.block_n,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )  # fmt: skip
    return dk, dv


def _dtable(a: Arguments, lse: Tensor, delta: Tensor, dout: Tensor) -> Tensor:
    """[num_buckets, H], the sum of partial sums [bands, splits, H, num_buckets] in a fixed order."""
    assert a.table is not None and a.buckets is not None
    q_lo, q_hi = (None, None) if a.q_reach is None else a.q_reach.unbind(0)
    tile = a.tile("bias")
    block = min(tile.block_m, tile.block_n)
    bands = max(0, _tiles(a.q_len, block) + _tiles(a.k_len, block) - 1)
    buckets = a.table.shape[0]
    splits = max(1, min(a.batch, 1024 // max(1, a.heads * bands)))
    partial = torch.empty((bands, splits, a.heads, buckets), dtype=torch.float32, device=a.q.device)
    a.launch(
        attention_table_gradient,
        a.heads * bands * splits,
        (
            a.q, a.k, a.v, dout, lse, delta, a.relative, a.buckets, partial, a.q_segments, a.k_segments, q_lo, q_hi,
            a.kv_lens, a.q_order, a.k_order, a.seed, a.dropout_rows,
            *a.q.stride(), *a.k.stride(), *a.v.stride(), *dout.stride(), *a.index_strides(), *a.scalars(),
            a.batch, *a.lengths(), splits, buckets,
        ),
        drop=("BIAS",),
        WIDE=_wide(a.q, a.k, a.v, dout),
        BLOCK=block,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )  # fmt: skip
    return partial.sum((0, 1)).t().to(a.table.dtype).contiguous()


def _ddense(a: Arguments, lse: Tensor, delta: Tensor, dout: Tensor) -> Tensor:
    assert a.dense is not None
    tile = a.tile("bias")
    q_tiles, k_tiles = _tiles(a.q_len, tile.block_m), _tiles(a.k_len, tile.block_n)
    one = [size == 1 and full != 1 for size, full in zip(a.dense.shape, (a.batch, a.heads, 0, 0), strict=True)]
    one[2:] = [a.dense.shape[2] == 1, a.dense.shape[3] == 1]
    own_batch, own_heads = (1 if one[0] else a.batch), (1 if one[1] else a.heads)
    partial = torch.empty(
        (own_batch, own_heads, q_tiles if one[2] else a.q_len, k_tiles if one[3] else a.k_len),
        dtype=torch.float32,
        device=a.q.device,
    )
    a.launch(
        attention_dense_gradient,
        own_batch * own_heads * q_tiles * k_tiles,
        (
            a.q, a.k, a.v, dout, lse, delta, a.dense, partial, a.q_segments, a.k_segments, a.kv_lens,
            a.q_order, a.k_order, a.seed, a.dropout_rows,
            *a.q.stride(), *a.k.stride(), *a.v.stride(), *dout.stride(), *_broadcast_strides(a.dense),
            *a.index_strides(), *partial.stride(), *a.scalars(), a.batch, *a.lengths(),
        ),
        drop=("BIAS",),
        ONE_BATCH=one[0],
        ONE_HEAD=one[1],
        ONE_ROW=one[2],
        ONE_COL=one[3],
        WIDE=_wide(a.q, a.k, a.v, dout),
        BLOCK_M=tile.block_m,
        BLOCK_N=tile.block_n,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )  # fmt: skip
    summed = [axis for axis in (2, 3) if one[axis]]
    return (partial.sum(summed, keepdim=True) if summed else partial).to(a.dense.dtype)


@torch.library.custom_op("isoflop::attention", mutates_args=())
def attention_op(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor | None, table: Tensor | None, buckets: Tensor | None,
    dense: Tensor | None, q_segments: Tensor | None, k_segments: Tensor | None, q_reach: Tensor | None,
    k_reach: Tensor | None, kv_lens: Tensor | None, q_order: Tensor | None, k_order: Tensor | None,
    sink: Tensor | None, seed: Tensor | None, dropout_rows: Tensor | None, left: int, right: int, strict: bool,
    softcap: float, dropout_p: float, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(out [B, Sq, H, D], lse float32 [B, H, Sq]). left, right: -1 for no bound. reach: int32 [2, B, S]."""
    return _forward(
        Arguments(
            q, k, v, slopes, table, buckets, dense, q_segments, k_segments, q_reach, k_reach, kv_lens, q_order,
            k_order, sink, seed, dropout_rows, left, right, strict, softcap, dropout_p, scale,
        )
    )  # fmt: skip


@attention_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    batch, q_len, heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((batch, heads, q_len), dtype=torch.float32)


@torch.library.custom_op("isoflop::attention_backward", mutates_args=())
def attention_backward_op(
    dout: Tensor, dlse: Tensor | None, out: Tensor, lse: Tensor, needs_table: bool, needs_dense: bool,
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor | None, table: Tensor | None, buckets: Tensor | None,
    dense: Tensor | None, q_segments: Tensor | None, k_segments: Tensor | None, q_reach: Tensor | None,
    k_reach: Tensor | None, kv_lens: Tensor | None, q_order: Tensor | None, k_order: Tensor | None,
    sink: Tensor | None, seed: Tensor | None, dropout_rows: Tensor | None, left: int, right: int, strict: bool,
    softcap: float, dropout_p: float, scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v, table, dense and sink; of size 0 where not needed."""
    a = Arguments(
        q, k, v, slopes, table, buckets, dense, q_segments, k_segments, q_reach, k_reach, kv_lens, q_order,
        k_order, sink, seed, dropout_rows, left, right, strict, softcap, dropout_p, scale,
    )  # fmt: skip
    delta = _delta(a, out, lse, dout, None if dlse is None else dlse.contiguous())
    dk, dv = _dkdv(a, lse, delta, dout)
    nothing = [q.new_empty(0) for _ in range(3)]
    dtable = _dtable(a, lse, delta, dout) if needs_table else nothing[0]
    ddense = _ddense(a, lse, delta, dout) if needs_dense else nothing[1]
    dq, rest = _dq(a, lse, delta, dout)
    dsink = nothing[2] if sink is None or rest is None else _dsink(sink, lse, delta, dlse, rest)
    return dq, dk, dv, dtable, ddense, dsink


@attention_backward_op.register_fake
def _(
    dout: Tensor, dlse: Tensor | None, out: Tensor, lse: Tensor, needs_table: bool, needs_dense: bool,
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor | None, table: Tensor | None, buckets: Tensor | None,
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
    dq, dk, dv, dtable, ddense, dsink = attention_backward_op(
        dout, dlse, out, lse, needs[4], needs[6], *tensors, *ctx.numbers
    )
    gradients: list[Tensor | None] = [None] * (_TENSORS + len(ctx.numbers))
    gradients[0:3] = dq, dk, dv
    gradients[4] = dtable if needs[4] else None
    gradients[6] = ddense if needs[6] else None
    gradients[14] = dsink if needs[14] else None
    return tuple(gradients)


attention_op.register_autograd(_backward, setup_context=_setup_context)
