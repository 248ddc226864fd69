"""The backward kernels: delta, dQ, and dK/dV (FlashAttention-2, arXiv 2307.08691, algorithm 2, split in two so that
every sum has one owner and a fixed order: no atomics, and repeated runs agree bit for bit)."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.triton.forward import UNSPECIALISED, key_spans, query_tile
from kernels.attention.triton.operands import Operand
from kernels.attention.triton.spans import PARTS, far_bias, has_full, is_masked, of_part, span, spans_of, walked
from kernels.attention.triton.tile import (
    align_up,
    kept,
    keys,
    lanes,
    load_rows,
    of_head,
    program_of,
    queries,
    score_gradient,
    sizes_of,
    store_rows,
    to_unit,
    visible,
)


@triton.jit(do_not_specialize=("heads", "q_len"))
def attention_delta(out, dout, lse_ptr, dlse_ptr, delta_ptr, heads, q_len, S: tl.constexpr, HAS_DLSE: tl.constexpr):
    """delta = rowsum(dO * O) - dLSE, 0 for a row that sees nothing. Grid: batch * heads * tiles of queries."""
    row0, batch, head = query_tile(q_len, heads, S.block_m)
    rows = row0 + tl.arange(0, S.block_m)
    row = lanes(S.block_m, S.wide)
    dim = lanes(S.block_d, S.wide)
    out_tile = load_rows(of_head(out, batch, head), row0, row, dim, q_len, S, True)
    dout_tile = load_rows(of_head(dout, batch, head), row0, row, dim, q_len, S, True)
    delta = tl.sum(out_tile.to(tl.float32) * dout_tile.to(tl.float32), 1)
    place = (batch * heads + head) * q_len + rows
    if HAS_DLSE:
        delta -= tl.load(dlse_ptr + place, mask=rows < q_len, other=0.0)
    lse = tl.load(lse_ptr + place, mask=rows < q_len, other=0.0)
    tl.store(delta_ptr + place, tl.where(lse == float("-inf"), 0.0, delta), mask=rows < q_len)


@triton.jit
def load_statistics(statistics, offset, first, q_len, S: tl.constexpr, BLOCK: tl.constexpr):
    """(lse in its unit, delta) of these rows; +inf, so that probabilities are 0, where a row is empty or absent.

    Also where a dense bias of finfo.min hides the whole row: its lse has no room left for the number of keys.
    """
    at = first + tl.arange(0, BLOCK)
    lse = tl.load(statistics.lse + offset + at, mask=at < q_len, other=float("-inf"))
    lowest = -1e30 if S.bias == 3 else float("-inf")
    lse = tl.where(lse <= lowest, float("inf"), to_unit(lse, S))
    return lse, tl.load(statistics.delta + offset + at, mask=at < q_len, other=0.0)


@triton.jit
def _walk_keys(
    dq, rest, q, dout, lse, delta, start, stop, rows, k_head, v_head, program, bias, mask, scaling, dropout, sizes,
    S: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add to dq what the key tiles of [start, stop) give, and to rest (with a sink) the row sums of dS."""
    col = lanes(S.block_n, S.wide)
    dim = lanes(S.block_d, S.wide)
    for place in range(start, stop, S.block_n):
        first = tl.cast(place, tl.int32)
        k = load_rows(k_head, place, col, dim, sizes.k_end, S, MASKED)
        v = load_rows(v_head, place, col, dim, sizes.k_end, S, MASKED)
        cols = keys(first, mask, program.batch, sizes, S, S.block_n, 1, MASKED)
        products = tl.dot(q, tl.trans(k), input_precision=S.precision)
        dp = tl.dot(dout, tl.trans(v), input_precision=S.precision)
        seen = True
        if MASKED:
            seen = visible(rows, cols, sizes, S)
        keep = True
        if S.dropout:
            keep = kept(program, dropout, rows.first, first, S.block_m, S.block_n)
        _, dbiased, dscaled = score_gradient(
            products, dp, lse[:, None], delta[:, None], keep, seen, rows, cols, program, bias, scaling, dropout,
            sizes, S, MASKED,
        )  # fmt: skip
        dq = tl.dot(dscaled.to(k.dtype), k, dq, input_precision=S.precision)
        if S.sink:
            rest += tl.sum(dbiased, 1)
    return dq, rest


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_dq(
    q, k, v, dout, dq, statistics, bias, mask, dropout, scaling, heads, q_len, k_len, left, right, S: tl.constexpr
):
    """Grid: batch * heads * tiles of queries. Walks over the keys as the forward kernel does.

    With a sink it also leaves rest = the row sums of dS over the keys, from which the sink's gradient follows.
    """
    row0, batch, head = query_tile(q_len, heads, S.block_m)
    sizes = sizes_of(mask, batch, q_len, k_len, left, right, S)
    program = program_of(batch, head, heads, bias, dropout, S)
    rows = queries(row0, mask, batch, sizes, S, S.block_m, 0, True)
    at = row0 + tl.arange(0, S.block_m)
    row = lanes(S.block_m, S.wide)
    dim = lanes(S.block_d, S.wide)
    k_head = of_head(k, batch, head // S.groups)
    v_head = of_head(v, batch, head // S.groups)
    q_tile = load_rows(of_head(q, batch, head), row0, row, dim, q_len, S, True)
    dout_tile = load_rows(of_head(dout, batch, head), row0, row, dim, q_len, S, True)
    offset = (batch * heads + head) * q_len
    lse, delta = load_statistics(statistics, offset, row0, q_len, S, S.block_m)

    gradient = tl.full([S.block_m, S.block_d], 0.0, dtype=tl.float32)
    rest = tl.full([S.block_m], 0.0, dtype=tl.float32)
    spans = key_spans(rows, at, mask, batch, sizes, S)
    for part in tl.static_range(PARTS):
        if walked(part, S, S.has_left, S.has_right, False, True):
            start, stop = span(spans, part, not has_full(S))
            gradient, rest = _walk_keys(
                gradient, rest, q_tile, dout_tile, lse - far_bias(program, part, True, S), delta, start, stop, rows,
                k_head, v_head, program, bias, mask, scaling, dropout, sizes, of_part(S, part), is_masked(part),
            )  # fmt: skip
    if S.sink:
        tl.store(statistics.rest + offset + at, rest, mask=at < q_len)
    store_rows(of_head(dq, batch, head), gradient * scaling.scale, row0, row, dim, q_len, S)


@triton.jit
def query_spans(cols, at, mask, batch, sizes, S: tl.constexpr):
    """The spans of queries for a tile of keys. Tiles of queries may be ragged: absent rows add nothing, unmasked."""
    reaches = mask.reaches
    if S.segments:
        reaches += batch * mask.segment_rows * 3 * sizes.k_len
    last = tl.minimum(cols.first + S.block_n, sizes.k_len) - 1
    return spans_of(
        cols.first, last, at, sizes.k_len, sizes.k_end, sizes.q_len, align_up(sizes.q_len, S.block_m), -sizes.shift,
        sizes.right, sizes.left, reaches, S.has_right, S.has_left, S.k_lens, S, S.block_m,
    )  # fmt: skip


@triton.jit
def _walk_queries(
    dk, dv, k, v, start, stop, cols, q_head, dout_head, statistics, offset, far, program, bias, mask, scaling, dropout,
    sizes, S: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add to dk and dv what the query tiles of [start, stop) give. Tiles stand as [keys, queries].

    far: what is to be added to every score of these tiles (S.even); it is taken off lse instead.
    Rows past the end are loaded as 0 with an infinite lse, so that they add nothing without a mask.
    """
    row = lanes(S.block_m, S.wide)
    dim = lanes(S.block_d, S.wide)
    for place in range(start, stop, S.block_m):
        first = tl.cast(place, tl.int32)
        q = load_rows(q_head, place, row, dim, sizes.q_len, S, True)
        dout = load_rows(dout_head, place, row, dim, sizes.q_len, S, True)
        rows = queries(first, mask, program.batch, sizes, S, S.block_m, 1, MASKED)
        lse, delta = load_statistics(statistics, offset, first, sizes.q_len, S, S.block_m)
        if S.even:
            lse -= far
        products = tl.dot(k, tl.trans(q), input_precision=S.precision)
        dp = products
        if S.dk:
            dp = tl.dot(v, tl.trans(dout), input_precision=S.precision)
        seen = True
        if MASKED:
            seen = visible(rows, cols, sizes, S)
        keep = True
        if S.dropout:
            keep = tl.trans(kept(program, dropout, first, cols.first, S.block_m, S.block_n))
        dropped, _, dscaled = score_gradient(
            products, dp, lse[None, :], delta[None, :], keep, seen, rows, cols, program, bias, scaling, dropout,
            sizes, S, MASKED,
        )  # fmt: skip
        if S.dv:
            dv = tl.dot(dropped.to(dout.dtype), dout, dv, input_precision=S.precision)
        if S.dk:
            dk = tl.dot(dscaled.to(q.dtype), q, dk, input_precision=S.precision)
    return dk, dv


@triton.jit
def _store_keys(tensor, tile, first, row, dim, length, S: tl.constexpr):
    """As store_rows. Its condition is not that of the loads, which would be kept for it over the loops, and spill."""
    tensor = Operand(tensor.ptr + tl.cast(first, tl.int64) * tensor.row, 0, tensor.row, 0, tensor.dim)
    store_rows(tensor, tile, 0, row, dim, length - first, S)


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_dkdv(
    q, k, v, dout, dk, dv, statistics, bias, mask, dropout, scaling, heads, q_len, k_len, left, right, S: tl.constexpr
):
    """Grid: batch * kv heads * tiles of keys. Sums over the query heads of its group in their order."""
    tiles = tl.cdiv(k_len, S.block_n)
    col0 = tl.program_id(0) % tiles * S.block_n
    kv_heads = heads // S.groups
    batch = (tl.program_id(0) // tiles // kv_heads).to(tl.int64)
    kv_head = (tl.program_id(0) // tiles % kv_heads).to(tl.int64)
    sizes = sizes_of(mask, batch, q_len, k_len, left, right, S)
    cols = keys(col0, mask, batch, sizes, S, S.block_n, 0, True)
    at = col0 + tl.arange(0, S.block_n)
    col = lanes(S.block_n, S.wide)
    dim = lanes(S.block_d, S.wide)
    k_tile = load_rows(of_head(k, batch, kv_head), col0, col, dim, k_len, S, True)
    v_tile = load_rows(of_head(v, batch, kv_head), col0, col, dim, k_len, S, True)
    spans = query_spans(cols, at, mask, batch, sizes, S)

    dk_tile = tl.full([S.block_n, S.block_d], 0.0, dtype=tl.float32)
    dv_tile = tl.full([S.block_n, S.block_d], 0.0, dtype=tl.float32)
    for member in tl.range(S.groups, disable_licm=True):
        head = kv_head * S.groups + member
        program = program_of(batch, head, heads, bias, dropout, S)
        q_head = of_head(q, batch, head)
        dout_head = of_head(dout, batch, head)
        for part in tl.static_range(PARTS):
            if walked(part, S, S.has_right, S.has_left, S.k_lens, False):
                start, stop = span(spans, part, not has_full(S))
                if S.groups > 1:  # always true, but LLVM would keep addresses of all starts over the loop, and spill
                    start = tl.where(head < heads, start, stop)
                dk_tile, dv_tile = _walk_queries(
                    dk_tile, dv_tile, k_tile, v_tile, start, stop, cols, q_head, dout_head, statistics,
                    (batch * heads + head) * q_len, far_bias(program, part, False, S), program, bias, mask, scaling,
                    dropout, sizes, of_part(S, part), is_masked(part),
                )  # fmt: skip
    if S.dk:
        _store_keys(of_head(dk, batch, kv_head), dk_tile * scaling.scale, col0, col, dim, k_len, S)
    if S.dv:
        _store_keys(of_head(dv, batch, kv_head), dv_tile, col0, col, dim, k_len, S)
