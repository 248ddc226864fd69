"""The backward kernels: delta, dQ, and dK/dV (FlashAttention-2, arXiv 2307.08691, algorithm 2, split in two so that
every sum has one owner and a fixed order: no atomics, and repeated runs agree bit for bit)."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.triton.forward import full_key_range, key_range
from kernels.attention.triton.tile import (
    align_down,
    align_up,
    kept,
    lanes,
    load_rows,
    score_gradient,
    store_rows,
    visible,
)
from kernels.device import LOG2E


@triton.jit
def attention_delta(
    out_ptr, dout_ptr, lse_ptr, dlse_ptr, delta_ptr,
    stride_ob, stride_om, stride_oh, stride_od, stride_gb, stride_gm, stride_gh, stride_gd,
    heads, q_len,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, HAS_DLSE: tl.constexpr, WIDE: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """delta = rowsum(dO * O) - dLSE, 0 for a row that sees nothing. Grid: batch * heads * tiles of queries."""
    tiles = tl.cdiv(q_len, BLOCK_M)
    row0 = tl.program_id(0) % tiles * BLOCK_M
    head_number = tl.program_id(0) // tiles
    batch = (head_number // heads).to(tl.int64)
    head = (head_number % heads).to(tl.int64)
    rows = row0 + tl.arange(0, BLOCK_M)
    row = lanes(BLOCK_M, WIDE)
    dim = lanes(BLOCK_D, WIDE)
    out_base = out_ptr + batch * stride_ob + head * stride_oh
    dout_base = dout_ptr + batch * stride_gb + head * stride_gh
    out = load_rows(out_base, row0, stride_om, stride_od, row, dim, q_len, HEAD_DIM, True)
    dout = load_rows(dout_base, row0, stride_gm, stride_gd, row, dim, q_len, HEAD_DIM, True)
    delta = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)
    place = head_number.to(tl.int64) * q_len + rows
    if HAS_DLSE:
        delta -= tl.load(dlse_ptr + place, mask=rows < q_len, other=0.0)
    lse = tl.load(lse_ptr + place, mask=rows < q_len, other=0.0)
    tl.store(delta_ptr + place, tl.where(lse == float("-inf"), 0.0, delta), mask=rows < q_len)


@triton.jit
def load_statistics(lse_ptr, delta_ptr, rows, q_len):
    """(lse in log2 units, delta) of these rows; +inf, so that probabilities are 0, where a row is empty or absent."""
    lse = tl.load(lse_ptr + rows, mask=rows < q_len, other=float("-inf"))
    lse = tl.where(lse == float("-inf"), float("inf"), lse * LOG2E)
    return lse, tl.load(delta_ptr + rows, mask=rows < q_len, other=0.0)


@triton.jit
def _walk_keys(
    dq, rest, q, dout, lse, delta, start, stop, row0, rows,
    k_base, stride_kn, stride_kd, v_base, stride_vn, stride_vd, dim,
    slope, relative_ptr, dense_ptr, dense_row, dense_col,
    q_segment, k_segment_ptr, q_rank, k_rank_ptr, seed, threshold, number,
    q_len, k_len, k_end, left, right, scale, softcap, keep_scale,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, BIAS: tl.constexpr, SEGMENTS: tl.constexpr,
    ORDER: tl.constexpr, SOFTCAP: tl.constexpr, SINK: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
    WIDE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add to dq what the key tiles of [start, stop) give, and to rest (with a sink) the row sums of dS."""
    col = lanes(BLOCK_N, WIDE)
    for first in range(start, stop, BLOCK_N):
        k = load_rows(k_base, first, stride_kn, stride_kd, col, dim, k_end, HEAD_DIM, MASKED)
        v = load_rows(v_base, first, stride_vn, stride_vd, col, dim, k_end, HEAD_DIM, MASKED)
        cols = first + tl.arange(0, BLOCK_N)
        products = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        dp = tl.dot(dout, tl.trans(v), input_precision=PRECISION)
        seen = True
        if MASKED:
            k_segment = 0
            k_rank = 0
            if SEGMENTS:
                k_segment = tl.load(k_segment_ptr + cols, mask=cols < k_end, other=-1)[None, :]
            if ORDER > 0:
                k_rank = tl.load(k_rank_ptr + cols, mask=cols < k_end, other=0)[None, :]
            seen = visible(
                rows[:, None], cols[None, :], q_segment, k_segment, q_rank, k_rank, k_len - q_len, k_end, left, right,
                HAS_LEFT, HAS_RIGHT, SEGMENTS, ORDER,
            )  # fmt: skip
        keep = True
        if DROPOUT:
            keep = kept(seed, row0, first, number, threshold, BLOCK_M, BLOCK_N)
        _, dbiased, dscaled = score_gradient(
            products, dp, lse[:, None], delta[:, None], keep, seen, rows[:, None], cols[None, :],
            slope, relative_ptr, dense_ptr, dense_row, dense_col, q_len, k_len, scale, softcap, keep_scale,
            BIAS, SOFTCAP, DROPOUT, MASKED,
        )  # fmt: skip
        dq = tl.dot(dscaled.to(k.dtype), k, dq, input_precision=PRECISION)
        if SINK:
            rest += tl.sum(dbiased, 1)
    return dq, rest


@triton.jit
def attention_dq(
    q_ptr, k_ptr, v_ptr, dout_ptr, lse_ptr, delta_ptr, dq_ptr, rest_ptr,
    slopes_ptr, relative_ptr, dense_ptr, q_segment_ptr, k_segment_ptr, q_lo_ptr, q_hi_ptr, k_lens_ptr,
    q_rank_ptr, k_rank_ptr, seed_ptr, dropout_rows_ptr,
    stride_qb, stride_qm, stride_qh, stride_qd, stride_kb, stride_kn, stride_kh, stride_kd,
    stride_vb, stride_vn, stride_vh, stride_vd, stride_gb, stride_gm, stride_gh, stride_gd,
    stride_dqb, stride_dqm, stride_dqh, stride_dqd,
    stride_slopes, stride_dense_b, stride_dense_h, stride_dense_m, stride_dense_n,
    stride_q_segment, stride_k_segment, stride_k_lens, stride_q_rank, stride_k_rank,
    scale, softcap, threshold, keep_scale, heads, q_len, k_len, left, right,
    GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, BIAS: tl.constexpr, SEGMENTS: tl.constexpr,
    K_LENS: tl.constexpr, ORDER: tl.constexpr, SOFTCAP: tl.constexpr, SINK: tl.constexpr, DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr, WIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Grid: batch * heads * tiles of queries. Walks over the keys as the forward kernel does.

    With a sink it also leaves rest = the row sums of dS over the keys, from which the sink's gradient follows.
    """
    tiles = tl.cdiv(q_len, BLOCK_M)
    row0 = (tiles - 1 - tl.program_id(0) % tiles) * BLOCK_M
    head_number = tl.program_id(0) // tiles
    batch = (head_number // heads).to(tl.int64)
    head = (head_number % heads).to(tl.int64)
    shift = k_len - q_len
    rows = row0 + tl.arange(0, BLOCK_M)
    row = lanes(BLOCK_M, WIDE)
    dim = lanes(BLOCK_D, WIDE)

    q_base = q_ptr + batch * stride_qb + head * stride_qh
    k_base = k_ptr + batch * stride_kb + head // GROUPS * stride_kh
    v_base = v_ptr + batch * stride_vb + head // GROUPS * stride_vh
    dout_base = dout_ptr + batch * stride_gb + head * stride_gh
    q = load_rows(q_base, row0, stride_qm, stride_qd, row, dim, q_len, HEAD_DIM, True)
    dout = load_rows(dout_base, row0, stride_gm, stride_gd, row, dim, q_len, HEAD_DIM, True)
    statistics = head_number.to(tl.int64) * q_len
    lse, delta = load_statistics(lse_ptr + statistics, delta_ptr + statistics, rows, q_len)

    k_end = k_len
    if K_LENS:
        k_end = tl.maximum(tl.minimum(k_len, tl.load(k_lens_ptr + batch * stride_k_lens)), 0)
    slope = 0.0
    if BIAS == 1:
        slope = tl.load(slopes_ptr + batch * stride_slopes + head).to(tl.float32)
    if BIAS == 2:
        relative_ptr += head * (q_len + k_len - 1)
    if BIAS == 3:
        dense_ptr += batch * stride_dense_b + head * stride_dense_h
    q_segment = 0
    if SEGMENTS:
        q_segment_ptr += batch * stride_q_segment
        k_segment_ptr += batch * stride_k_segment
        q_lo_ptr += batch * stride_q_segment
        q_hi_ptr += batch * stride_q_segment
        q_segment = tl.load(q_segment_ptr + rows, mask=rows < q_len, other=-1)[:, None]
    q_rank = 0
    if ORDER > 0:
        k_rank_ptr += batch * stride_k_rank
        q_rank = tl.load(q_rank_ptr + batch * stride_q_rank + rows, mask=rows < q_len, other=0)[:, None]
    seed = 0
    number = 0
    if DROPOUT:
        seed = tl.load(seed_ptr)
        number = tl.load(dropout_rows_ptr + batch) * heads + head

    last_row = tl.minimum(row0 + BLOCK_M, q_len) - 1
    lo, hi = key_range(
        row0, last_row, q_lo_ptr, q_hi_ptr, rows, q_len, k_end, shift, left, right,
        HAS_LEFT, HAS_RIGHT, SEGMENTS, BLOCK_N,
    )  # fmt: skip
    full_lo, full_hi = full_key_range(
        lo, hi, row0, last_row, k_end, shift, left, right, HAS_LEFT, HAS_RIGHT, SEGMENTS or ORDER > 0, BLOCK_N,
    )  # fmt: skip
    dq = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    rest = tl.zeros([BLOCK_M], dtype=tl.float32)
    for span in tl.static_range(3):
        if span == 0:
            start, stop = lo, tl.minimum(full_lo, hi)
        elif span == 1:
            start, stop = full_lo, full_hi
        else:
            start, stop = full_hi, hi
        if (span != 0 or HAS_LEFT) and (span != 1 or not (SEGMENTS or ORDER > 0)):
            dq, rest = _walk_keys(
                dq, rest, q, dout, lse, delta, start, stop, row0, rows,
                k_base, stride_kn, stride_kd, v_base, stride_vn, stride_vd, dim,
                slope, relative_ptr, dense_ptr, stride_dense_m, stride_dense_n,
                q_segment, k_segment_ptr, q_rank, k_rank_ptr, seed, threshold, number,
                q_len, k_len, k_end, left, right, scale, softcap, keep_scale,
                HEAD_DIM, BLOCK_M, BLOCK_N, HAS_LEFT, HAS_RIGHT, BIAS, SEGMENTS,
                ORDER, SOFTCAP, SINK, DROPOUT, PRECISION, WIDE, span != 1,
            )  # fmt: skip
    if SINK:
        tl.store(rest_ptr + statistics + rows, rest, mask=rows < q_len)
    store_rows(
        dq_ptr + batch * stride_dqb + head * stride_dqh, dq * scale, row0, stride_dqm, stride_dqd, row, dim,
        q_len, HEAD_DIM,
    )  # fmt: skip


@triton.jit
def _walk_queries(
    dk, dv, k, v, start, stop, col0, cols,
    q_base, stride_qm, stride_qd, dout_base, stride_gm, stride_gd, lse_ptr, delta_ptr, dim,
    slope, relative_ptr, dense_ptr, dense_row, dense_col,
    k_segment, q_segment_ptr, k_rank, q_rank_ptr, seed, threshold, number,
    q_len, k_len, k_end, left, right, scale, softcap, keep_scale,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, BIAS: tl.constexpr, SEGMENTS: tl.constexpr,
    ORDER: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
    WIDE: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add to dk and dv what the query tiles of [start, stop) give. Tiles stand as [keys, queries].

    Rows past the end are loaded as 0 with an infinite lse, so that they add nothing without a mask.
    """
    row = lanes(BLOCK_M, WIDE)
    for first in range(start, stop, BLOCK_M):
        q = load_rows(q_base, first, stride_qm, stride_qd, row, dim, q_len, HEAD_DIM, True)
        dout = load_rows(dout_base, first, stride_gm, stride_gd, row, dim, q_len, HEAD_DIM, True)
        rows = first + tl.arange(0, BLOCK_M)
        lse, delta = load_statistics(lse_ptr, delta_ptr, rows, q_len)
        products = tl.dot(k, tl.trans(q), input_precision=PRECISION)
        dp = products
        if DK:
            dp = tl.dot(v, tl.trans(dout), input_precision=PRECISION)
        seen = True
        if MASKED:
            q_segment = 0
            q_rank = 0
            if SEGMENTS:
                q_segment = tl.load(q_segment_ptr + rows, mask=rows < q_len, other=-1)[None, :]
            if ORDER > 0:
                q_rank = tl.load(q_rank_ptr + rows, mask=rows < q_len, other=0)[None, :]
            seen = visible(
                rows[None, :], cols[:, None], q_segment, k_segment, q_rank, k_rank, k_len - q_len, k_end, left, right,
                HAS_LEFT, HAS_RIGHT, SEGMENTS, ORDER,
            )  # fmt: skip
        keep = True
        if DROPOUT:
            keep = tl.trans(kept(seed, first, col0, number, threshold, BLOCK_M, BLOCK_N))
        dropped, _, dscaled = score_gradient(
            products, dp, lse[None, :], delta[None, :], keep, seen, rows[None, :], cols[:, None],
            slope, relative_ptr, dense_ptr, dense_row, dense_col, q_len, k_len, scale, softcap, keep_scale,
            BIAS, SOFTCAP, DROPOUT, MASKED,
        )  # fmt: skip
        if DV:
            dv = tl.dot(dropped.to(dout.dtype), dout, dv, input_precision=PRECISION)
        if DK:
            dk = tl.dot(dscaled.to(q.dtype), q, dk, input_precision=PRECISION)
    return dk, dv


@triton.jit
def attention_dkdv(
    q_ptr, k_ptr, v_ptr, dout_ptr, lse_ptr, delta_ptr, dk_ptr, dv_ptr,
    slopes_ptr, relative_ptr, dense_ptr, q_segment_ptr, k_segment_ptr, k_lo_ptr, k_hi_ptr, k_lens_ptr,
    q_rank_ptr, k_rank_ptr, seed_ptr, dropout_rows_ptr,
    stride_qb, stride_qm, stride_qh, stride_qd, stride_kb, stride_kn, stride_kh, stride_kd,
    stride_vb, stride_vn, stride_vh, stride_vd, stride_gb, stride_gm, stride_gh, stride_gd,
    stride_dkb, stride_dkn, stride_dkh, stride_dkd, stride_dvb, stride_dvn, stride_dvh, stride_dvd,
    stride_slopes, stride_dense_b, stride_dense_h, stride_dense_m, stride_dense_n,
    stride_q_segment, stride_k_segment, stride_k_lens, stride_q_rank, stride_k_rank,
    scale, softcap, threshold, keep_scale, heads, q_len, k_len, left, right,
    GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, BIAS: tl.constexpr, SEGMENTS: tl.constexpr,
    K_LENS: tl.constexpr, ORDER: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr,
    FIRST_MASKED: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Grid: batch * kv heads * tiles of keys. Sums over the query heads of its group in their order.

    DK, DV: which of the two to form; both at once spill registers at head size 256.
    FIRST_MASKED: something may hide keys in the first span of queries (causality, key lengths, segments or order).
    """
    tiles = tl.cdiv(k_len, BLOCK_N)
    col0 = tl.program_id(0) % tiles * BLOCK_N
    kv_heads = heads // GROUPS
    batch = (tl.program_id(0) // tiles // kv_heads).to(tl.int64)
    kv_head = (tl.program_id(0) // tiles % kv_heads).to(tl.int64)
    shift = k_len - q_len
    cols = col0 + tl.arange(0, BLOCK_N)
    col = lanes(BLOCK_N, WIDE)
    dim = lanes(BLOCK_D, WIDE)

    k_base = k_ptr + batch * stride_kb + kv_head * stride_kh
    v_base = v_ptr + batch * stride_vb + kv_head * stride_vh
    k = load_rows(k_base, col0, stride_kn, stride_kd, col, dim, k_len, HEAD_DIM, True)
    v = load_rows(v_base, col0, stride_vn, stride_vd, col, dim, k_len, HEAD_DIM, True)

    k_end = k_len
    if K_LENS:
        k_end = tl.maximum(tl.minimum(k_len, tl.load(k_lens_ptr + batch * stride_k_lens)), 0)
    k_segment = 0
    if SEGMENTS:
        q_segment_ptr += batch * stride_q_segment
        k_segment_ptr += batch * stride_k_segment
        k_lo_ptr += batch * stride_k_segment
        k_hi_ptr += batch * stride_k_segment
        k_segment = tl.load(k_segment_ptr + cols, mask=cols < k_len, other=-1)[:, None]
    k_rank = 0
    if ORDER > 0:
        q_rank_ptr += batch * stride_q_rank
        k_rank = tl.load(k_rank_ptr + batch * stride_k_rank + cols, mask=cols < k_len, other=0)[:, None]
    seed = 0
    if DROPOUT:
        seed = tl.load(seed_ptr)

    # [lo, hi): the queries that may see any of these keys; [full_lo, full_hi): whole tiles that see all of them.
    last_col = tl.minimum(col0 + BLOCK_N, k_len) - 1
    lo = 0
    hi = q_len
    if HAS_RIGHT:
        lo = tl.maximum(lo, col0 - shift - right)
    if HAS_LEFT:
        hi = tl.minimum(hi, last_col - shift + left + 1)
    if SEGMENTS:
        lo = tl.maximum(lo, tl.min(tl.load(k_lo_ptr + cols, mask=cols < k_len, other=2147483647)))
        hi = tl.minimum(hi, tl.max(tl.load(k_hi_ptr + cols, mask=cols < k_len, other=0)))
    if K_LENS:
        hi = tl.where(col0 < k_end, hi, 0)
    hi = tl.maximum(hi, 0)
    lo = align_down(tl.minimum(lo, hi), BLOCK_M)
    full_lo = lo
    full_hi = hi
    if HAS_RIGHT:
        full_lo = tl.maximum(full_lo, align_up(tl.maximum(last_col - shift - right, 0), BLOCK_M))
    if HAS_LEFT:
        full_hi = tl.minimum(full_hi, align_down(tl.maximum(col0 - shift + left + 1, 0), BLOCK_M))
    if K_LENS:
        full_lo = tl.where(last_col < k_end, full_lo, hi)
    if SEGMENTS or ORDER > 0:
        full_lo = hi
    full_lo = tl.minimum(full_lo, align_up(hi, BLOCK_M))
    full_hi = tl.maximum(full_hi, full_lo)

    dk = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for member in range(GROUPS):
        head = kv_head * GROUPS + member
        number = 0
        if DROPOUT:
            number = tl.load(dropout_rows_ptr + batch) * heads + head
        statistics = (batch * heads + head) * q_len
        slope = 0.0
        relative_head = relative_ptr
        dense_head = dense_ptr
        if BIAS == 1:
            slope = tl.load(slopes_ptr + batch * stride_slopes + head).to(tl.float32)
        if BIAS == 2:
            relative_head = relative_ptr + head * (q_len + k_len - 1)
        if BIAS == 3:
            dense_head = dense_ptr + batch * stride_dense_b + head * stride_dense_h
        for span in tl.static_range(3):
            if span == 0:
                start, stop = lo, tl.minimum(full_lo, hi)
            elif span == 1:
                start, stop = full_lo, full_hi
            else:
                start, stop = full_hi, hi
            if (span != 0 or FIRST_MASKED) and (span != 1 or not (SEGMENTS or ORDER > 0)) and (span != 2 or HAS_LEFT):
                dk, dv = _walk_queries(
                    dk, dv, k, v, start, stop, col0, cols,
                    q_ptr + batch * stride_qb + head * stride_qh, stride_qm, stride_qd,
                    dout_ptr + batch * stride_gb + head * stride_gh, stride_gm, stride_gd,
                    lse_ptr + statistics, delta_ptr + statistics, dim,
                    slope, relative_head, dense_head, stride_dense_m, stride_dense_n,
                    k_segment, q_segment_ptr, k_rank, q_rank_ptr, seed, threshold, number,
                    q_len, k_len, k_end, left, right, scale, softcap, keep_scale,
                    HEAD_DIM, BLOCK_M, BLOCK_N, HAS_LEFT, HAS_RIGHT, BIAS, SEGMENTS,
                    ORDER, SOFTCAP, DROPOUT, PRECISION, WIDE, DK, DV, span != 1,
                )  # fmt: skip
    if DK:
        store_rows(
            dk_ptr + batch * stride_dkb + kv_head * stride_dkh, dk * scale, col0, stride_dkn, stride_dkd, col, dim,
            k_len, HEAD_DIM,
        )  # fmt: skip
    if DV:
        store_rows(
            dv_ptr + batch * stride_dvb + kv_head * stride_dvh, dv, col0, stride_dvn, stride_dvd, col, dim,
            k_len, HEAD_DIM,
        )  # fmt: skip
