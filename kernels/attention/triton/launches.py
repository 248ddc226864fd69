"""What each kernel is launched with: a function of shapes and strides; no tensor value is read on the host."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from kernels.attention.dropout import threshold
from kernels.attention.triton.backward import attention_delta, attention_dkdv, attention_dq
from kernels.attention.triton.bias_gradient import attention_dense_gradient, attention_table_gradient
from kernels.attention.triton.buckets import MARGIN
from kernels.attention.triton.descriptors import forward_choice, provide_scratch
from kernels.attention.triton.forward import attention_forward
from kernels.attention.triton.operands import Dropout, Mask, Operand, Scaling, Statistics, Switches
from kernels.configs import Tile, architecture, attention_tile, block_dim, dkdv_passes, dot_precision, kind_of
from kernels.launcher import launch

NO_BOUND = -(2**31)  # left and right as operator arguments, where None is no bound
LOG2E = 1.4426950408889634
SKIP_RUNS = True  # off only in tests, which compare


class Call:
    """The operator's arguments under their names, with what the launches derive from them."""

    def __init__(
        self,
        q: Tensor, k: Tensor, v: Tensor, values: Tensor | None, table: Tensor | None, buckets: Tensor | None,
        dense: Tensor | None, q_segments: Tensor | None, k_segments: Tensor | None, q_reach: Tensor | None,
        k_reach: Tensor | None, kv_lens: Tensor | None, q_order: Tensor | None, k_order: Tensor | None,
        sink: Tensor | None, seed: Tensor | None, dropout_rows: Tensor | None, left: int, right: int, strict: bool,
        softcap: float, dropout_p: float, scale: float,
    ) -> None:  # fmt: skip
        self.q, self.k, self.v, self.sink = q, k, v, sink
        self.operands = (_operand(q), _operand(k), _operand(v))
        self.table, self.buckets, self.dense = table, buckets, dense
        self.q_reach, self.k_reach = q_reach, k_reach
        self.batch, self.q_len, self.heads, self.head_dim = q.shape
        self.k_len, self.kv_heads = k.shape[1], k.shape[2]
        self.lengths = (self.heads, self.q_len, self.k_len, left, right)
        kind = 2 if table is not None else 1 if values is not None else 3 if dense is not None else 0
        unit = 1.0 if kind == 3 else LOG2E
        self.scaling = _scaling(float(scale), float(softcap), unit)
        self.dropout = Dropout(seed, dropout_rows, *_odds(dropout_p))
        self.bias = _bias(values, table, dense)
        self.masks = (
            q_segments, k_segments, _own_rows(q_segments), kv_lens, _own_rows(kv_lens),
            q_order, k_order, _own_rows(q_order),
        )  # fmt: skip
        self.switches = Switches(
            groups=self.heads // self.kv_heads if self.kv_heads else 1,
            head_dim=self.head_dim,
            block_d=block_dim(self.head_dim),
            has_left=left != NO_BOUND,
            has_right=right != NO_BOUND,
            bias=kind,
            far=0 if buckets is None else len(buckets) // 2 - MARGIN,
            segments=q_segments is not None,
            k_lens=kv_lens is not None,
            order=0 if q_order is None else 2 if strict else 1,
            softcap=softcap > 0.0,
            sink=sink is not None,
            dropout=dropout_p > 0.0,
            precision=dot_precision(architecture(q.device), q.dtype),
            folded=kind in (0, 2) and softcap == 0.0 and scale > 0.0,
            runs=SKIP_RUNS,
        )

    def mask(self, reaches: Tensor | None) -> Mask:
        """With the reaches of the axis that the program holds."""
        q_segments, k_segments, rows, *rest = self.masks
        return Mask(q_segments, k_segments, reaches, rows, *rest)

    def tile(self, kernel: str) -> Tile:
        kind = kind_of(self.q.dtype, self.switches)
        return attention_tile(kernel, architecture(self.q.device), self.head_dim, kind)

    def launch(
        self, kernel: Any, programs: int, arguments: tuple[Any, ...], tile: Tile, tensors: tuple[Tensor, ...],
        switches: Switches | None = None, **more: bool,
    ) -> None:  # fmt: skip
        """tensors: those of which a program takes tiles. more: further constexpr arguments."""
        if programs == 0:
            return
        wide = True in map(_wide, [one.stride() for one in tensors])
        switches = _for_tile(switches or self.switches, tile, wide)
        launch(kernel, programs, arguments, {"S": switches, **more}, self.q, tile.warps, tile.stages)


@lru_cache(maxsize=4096)
def _scaling(scale: float, softcap: float, unit: float) -> Scaling:
    cap = softcap if softcap > 0.0 else 1.0
    return Scaling(scale, scale * unit, scale / cap, cap * unit)


@lru_cache(maxsize=4096)
def _odds(dropout_p: float) -> tuple[int, float]:
    """The threshold as an int32 of the same bits, and what keeps the mean."""
    signed = threshold(dropout_p)
    return signed - (2**32 if signed >= 2**31 else 0), 1.0 / (1.0 - dropout_p)


def _bias(values: Tensor | None, table: Tensor | None, dense: Tensor | None) -> Operand:
    """(pointer, strides of batch, row, head, column). values: ALiBi's slopes, or a table's at relative positions."""
    if values is not None and table is not None:
        return Operand(values, 0, 0, values.stride(0), 0)
    if values is not None:
        return Operand(values, 0 if values.dim() == 1 or len(values) == 1 else values.stride(0), 0, 1, 0)
    if dense is not None:
        batch, head, row, column = (
            0 if size == 1 else stride for size, stride in zip(dense.shape, dense.stride(), strict=True)
        )
        return Operand(dense, batch, row, head, column)
    return Operand(None, 0, 0, 0, 0)


def _operand(tensor: Tensor) -> Operand:
    return Operand(tensor, *tensor.stride())


def _own_rows(index: Tensor | None) -> int:
    return 0 if index is None or index.shape[0] == 1 else 1


@lru_cache(maxsize=4096)
def _wide(strides: tuple[int, ...]) -> bool:
    """Offsets inside a tile of 256 rows need 64 bits. (Offsets of tiles always have them.)"""
    return 256 * max(abs(stride) for stride in strides) >= 2**31


@lru_cache(maxsize=4096)
def _for_tile(switches: Switches, tile: Tile, wide: bool) -> Switches:
    return switches._replace(
        block_m=tile.block_m, block_n=tile.block_n, far_loops=switches.bias == 2 and tile.far == 1, wide=wide
    )


def _tiles(length: int, block: int) -> int:
    return -(-length // block)


def launch_forward(c: Call) -> tuple[Tensor, Tensor]:
    out = torch.empty(c.q.shape, dtype=c.q.dtype, device=c.q.device)
    lse = torch.empty((c.batch, c.heads, c.q_len), dtype=torch.float32, device=c.q.device)
    tile, switches = forward_choice(c.switches, c.q, c.k, c.v) or (c.tile("forward"), c.switches)
    if switches.descriptors:
        provide_scratch()
    c.launch(
        attention_forward,
        c.batch * c.heads * _tiles(c.q_len, tile.block_m),
        (
            *c.operands, _operand(out), lse, c.sink, c.bias, c.mask(c.q_reach),
            c.dropout, c.scaling, *c.lengths,
        ),
        tile,
        (c.q, c.k, c.v, out),
        switches,
    )  # fmt: skip
    return out, lse


@lru_cache
def _plain(head_dim: int) -> Switches:
    return Switches(head_dim=head_dim, block_d=block_dim(head_dim))


def launch_delta(c: Call, out: Tensor, lse: Tensor, dout: Tensor, dlse: Tensor | None) -> Tensor:
    delta = torch.empty_like(lse)
    tile = Tile(64, 64, 4, 2)
    programs = c.batch * c.heads * _tiles(c.q_len, tile.block_m)
    arguments = (_operand(out), _operand(dout), lse, dlse, delta, c.heads, c.q_len)
    plain = _plain(c.head_dim)
    c.launch(attention_delta, programs, arguments, tile, (out, dout), plain, HAS_DLSE=dlse is not None)
    return delta


def launch_dq(c: Call, lse: Tensor, delta: Tensor, dout: Tensor) -> tuple[Tensor, Tensor | None]:
    """dq, and with a sink the row sums of dS over the keys, float32 [B, H, Sq]."""
    dq = torch.empty(c.q.shape, dtype=c.q.dtype, device=c.q.device)
    rest = None if c.sink is None else torch.empty_like(lse)
    tile = c.tile("dq")
    c.launch(
        attention_dq,
        c.batch * c.heads * _tiles(c.q_len, tile.block_m),
        (
            *c.operands, _operand(dout), _operand(dq), Statistics(lse, delta, rest),
            c.bias, c.mask(c.q_reach), c.dropout, c.scaling, *c.lengths,
        ),
        tile,
        (c.q, c.k, c.v, dout, dq),
    )  # fmt: skip
    return dq, rest


def launch_dkdv(c: Call, lse: Tensor, delta: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
    dk = torch.empty(c.k.shape, dtype=c.k.dtype, device=c.k.device)
    dv = torch.empty(c.v.shape, dtype=c.v.dtype, device=c.v.device)
    tile = c.tile("dkdv")
    for want_dk, want_dv in dkdv_passes(c.head_dim):
        c.launch(
            attention_dkdv,
            c.batch * c.kv_heads * _tiles(c.k_len, tile.block_n),
            (
                *c.operands, _operand(dout), _operand(dk), _operand(dv),
                Statistics(lse, delta, None), c.bias, c.mask(c.k_reach), c.dropout, c.scaling, *c.lengths,
            ),
            tile,
            (c.q, c.k, c.v, dout, dk, dv),
            c.switches._replace(dk=want_dk, dv=want_dv),
        )  # fmt: skip
    return dk, dv


def launch_dtable(c: Call, lse: Tensor, delta: Tensor, dout: Tensor) -> Tensor:
    """[num_buckets, H], the sum of partial sums [bands, splits, H, num_buckets] in a fixed order."""
    assert c.table is not None and c.buckets is not None
    tile = c.tile("bias")
    block = min(tile.block_m, tile.block_n)
    bands = max(0, _tiles(c.q_len, block) + _tiles(c.k_len, block) - 1)
    buckets = c.table.shape[0]
    splits = max(1, min(c.batch, 1024 // max(1, c.heads * bands)))
    partial = torch.empty((bands, splits, c.heads, buckets), dtype=torch.float32, device=c.q.device)
    c.launch(
        attention_table_gradient,
        c.heads * bands * splits,
        (
            *c.operands, _operand(dout), Statistics(lse, delta, None), c.bias,
            c.buckets, partial, c.mask(c.q_reach), c.dropout, c.scaling, c.batch, *c.lengths, splits, buckets,
        ),
        tile._replace(block_m=block, block_n=block),
        (c.q, c.k, c.v, dout),
    )  # fmt: skip
    return partial.sum((0, 1)).t().to(c.table.dtype).contiguous()


def launch_ddense(c: Call, lse: Tensor, delta: Tensor, dout: Tensor) -> Tensor:
    assert c.dense is not None
    tile = c.tile("bias")
    q_tiles, k_tiles = _tiles(c.q_len, tile.block_m), _tiles(c.k_len, tile.block_n)
    one = [size == 1 and full != 1 for size, full in zip(c.dense.shape, (c.batch, c.heads, 0, 0), strict=True)]
    one[2:] = [c.dense.shape[2] == 1, c.dense.shape[3] == 1]
    own_batch, own_heads = (1 if one[0] else c.batch), (1 if one[1] else c.heads)
    partial = torch.empty(
        (own_batch, own_heads, q_tiles if one[2] else c.q_len, k_tiles if one[3] else c.k_len),
        dtype=torch.float32,
        device=c.q.device,
    )
    batch, head, row, column = partial.stride()
    c.launch(
        attention_dense_gradient,
        own_batch * own_heads * q_tiles * k_tiles,
        (
            *c.operands, _operand(dout), Statistics(lse, delta, None), c.bias,
            Operand(partial, batch, row, head, column), c.mask(c.q_reach), c.dropout, c.scaling, c.batch, *c.lengths,
        ),
        tile,
        (c.q, c.k, c.v, dout),
        ONE_BATCH=one[0],
        ONE_HEAD=one[1],
        ONE_ROW=one[2],
        ONE_COL=one[3],
    )  # fmt: skip
    summed = [axis for axis in (2, 3) if one[axis]]
    return (partial.sum(summed, keepdim=True) if summed else partial).to(c.dense.dtype)
