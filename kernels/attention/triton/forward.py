"""The forward kernel: one program holds a tile of queries and walks over the keys it may see (FlashAttention-2,
arXiv 2307.08691, algorithm 1), keeping a running maximum, sum and output. Memory is O(S)."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.triton.tile import (
    add_bias,
    align_down,
    align_up,
    capped_scores,
    kept,
    lanes,
    load_rows,
    store_rows,
    visible,
)
from kernels.device import LN2, LOG2E


@triton.jit
def key_range(
    first_row, last_row, q_lo_ptr, q_hi_ptr, rows, q_len, k_end, shift, left, right,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, SEGMENTS: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """[lo, hi): the keys that any of the rows may see; lo is a multiple of BLOCK_N."""
    lo = 0
    hi = k_end
    if HAS_RIGHT:
        hi = tl.minimum(hi, last_row + shift + right + 1)
    if HAS_LEFT:
        lo = tl.maximum(lo, first_row + shift - left)
    if SEGMENTS:
        lo = tl.maximum(lo, tl.min(tl.load(q_lo_ptr + rows, mask=rows < q_len, other=2147483647)))
        hi = tl.minimum(hi, tl.max(tl.load(q_hi_ptr + rows, mask=rows < q_len, other=0)))
    return align_down(tl.minimum(lo, tl.maximum(hi, 0)), BLOCK_N), hi


@triton.jit
def full_key_range(
    lo, hi, first_row, last_row, k_end, shift, left, right,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, ELEMENTWISE: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """[full_lo, full_hi) inside [lo, hi): whole key tiles that every row sees, so that they need no mask.

    ELEMENTWISE: segments or order hide single pairs, so no tile is known to be full.
    """
    full_lo = lo
    full_hi = k_end
    if HAS_RIGHT:
        full_hi = tl.minimum(full_hi, first_row + shift + right + 1)
    if HAS_LEFT:
        full_lo = tl.maximum(full_lo, align_up(tl.maximum(last_row + shift - left, 0), BLOCK_N))
    full_hi = align_down(tl.maximum(full_hi, 0), BLOCK_N)
    full_lo = tl.minimum(full_lo, tl.maximum(align_up(tl.maximum(hi, 0), BLOCK_N), lo))
    if ELEMENTWISE:
        full_lo = lo
        full_hi = lo
    return full_lo, tl.maximum(full_lo, full_hi)


@triton.jit
def _walk(
    acc, peak, total, q, start, stop, row0, rows,
    k_base, stride_kn, stride_kd, v_base, stride_vn, stride_vd, dim,
    slope, relative_ptr, dense_ptr, dense_row, dense_col,
    q_segment, k_segment_ptr, q_rank, k_rank_ptr, seed, threshold, number,
    q_len, k_len, k_end, left, right, scale, softcap,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, BIAS: tl.constexpr, SEGMENTS: tl.constexpr,
    ORDER: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
    WIDE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Fold the key tiles of [start, stop) into (acc, peak, total); peak is in log2 units."""
    col = lanes(BLOCK_N, WIDE)
    for first in range(start, stop, BLOCK_N):
        k = load_rows(k_base, first, stride_kn, stride_kd, col, dim, k_end, HEAD_DIM, MASKED)
        v = load_rows(v_base, first, stride_vn, stride_vd, col, dim, k_end, HEAD_DIM, MASKED)
        cols = first + tl.arange(0, BLOCK_N)
        products = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        scores = capped_scores(products, scale, softcap, SOFTCAP)
        scores = add_bias(
            scores, rows[:, None], cols[None, :], slope, relative_ptr, dense_ptr, dense_row, dense_col,
            q_len, k_len, BIAS,
        )  # fmt: skip
        scores *= LOG2E
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
            scores = tl.where(seen, scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1))
        # A row that has seen nothing yet has peak -inf; 0 in its place avoids inf - inf.
        safe_peak = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        p = tl.exp2(scores - safe_peak[:, None])
        shrink = tl.exp2(peak - safe_peak)
        total = total * shrink + tl.sum(p, 1)
        if DROPOUT:
            keep = kept(seed, row0, first, number, threshold, BLOCK_M, BLOCK_N)
            p = tl.where(keep, p, 0.0)
        acc = acc * shrink[:, None]
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision=PRECISION)
        peak = new_peak
    return acc, peak, total


@triton.jit
def attention_forward(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr,
    slopes_ptr, relative_ptr, dense_ptr, q_segment_ptr, k_segment_ptr, q_lo_ptr, q_hi_ptr, k_lens_ptr,
    q_rank_ptr, k_rank_ptr, sink_ptr, seed_ptr, dropout_rows_ptr,
    stride_qb, stride_qm, stride_qh, stride_qd, stride_kb, stride_kn, stride_kh, stride_kd,
    stride_vb, stride_vn, stride_vh, stride_vd, stride_ob, stride_om, stride_oh, stride_od,
    stride_slopes, stride_dense_b, stride_dense_h, stride_dense_m, stride_dense_n,
    stride_q_segment, stride_k_segment, stride_k_lens, stride_q_rank, stride_k_rank,
    scale, softcap, threshold, keep_scale, heads, q_len, k_len, left, right,
    GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, BIAS: tl.constexpr, SEGMENTS: tl.constexpr,
    K_LENS: tl.constexpr, ORDER: tl.constexpr, SOFTCAP: tl.constexpr, SINK: tl.constexpr, DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr, WIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Grid: batch * heads * tiles of queries. Writes out and lse (natural log, -inf for a row that sees nothing)."""
    tiles = tl.cdiv(q_len, BLOCK_M)
    # The last tile of a causal sequence has the most work: it goes first.
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
    q = load_rows(q_base, row0, stride_qm, stride_qd, row, dim, q_len, HEAD_DIM, True)

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

    peak = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    if SINK:
        # The sink is a key that was seen first: its logit is the peak so far, and its weight exp2(0) the sum.
        peak = tl.zeros([BLOCK_M], dtype=tl.float32) + tl.load(sink_ptr + head).to(tl.float32) * LOG2E
        total = tl.zeros([BLOCK_M], dtype=tl.float32) + 1.0
    acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)

    last_row = tl.minimum(row0 + BLOCK_M, q_len) - 1
    lo, hi = key_range(
        row0, last_row, q_lo_ptr, q_hi_ptr, rows, q_len, k_end, shift, left, right,
        HAS_LEFT, HAS_RIGHT, SEGMENTS, BLOCK_N,
    )  # fmt: skip
    full_lo, full_hi = full_key_range(
        lo, hi, row0, last_row, k_end, shift, left, right,
        HAS_LEFT, HAS_RIGHT, SEGMENTS or ORDER > 0, BLOCK_N,
    )  # fmt: skip
    # Three spans: the left edge of the window, the tiles without a mask, and the right edge with the ragged end.
    for span in tl.static_range(3):
        if span == 0:
            start, stop = lo, tl.minimum(full_lo, hi)
        elif span == 1:
            start, stop = full_lo, full_hi
        else:
            start, stop = full_hi, hi
        if (span != 0 or HAS_LEFT) and (span != 1 or not (SEGMENTS or ORDER > 0)):
            acc, peak, total = _walk(
                acc, peak, total, q, start, stop, row0, rows,
                k_base, stride_kn, stride_kd, v_base, stride_vn, stride_vd, dim,
                slope, relative_ptr, dense_ptr, stride_dense_m, stride_dense_n,
                q_segment, k_segment_ptr, q_rank, k_rank_ptr, seed, threshold, number,
                q_len, k_len, k_end, left, right, scale, softcap,
                HEAD_DIM, BLOCK_M, BLOCK_N, HAS_LEFT, HAS_RIGHT, BIAS, SEGMENTS,
                ORDER, SOFTCAP, DROPOUT, PRECISION, WIDE, span != 1,
            )  # fmt: skip

    empty = total == 0.0
    safe_total = tl.where(empty, 1.0, total)
    acc = acc / safe_total[:, None]
    if DROPOUT:
        acc = acc * keep_scale
    lse = tl.where(empty, float("-inf"), (peak + tl.log2(safe_total)) * LN2)
    out_base = out_ptr + batch * stride_ob + head * stride_oh
    store_rows(out_base, acc, row0, stride_om, stride_od, row, dim, q_len, HEAD_DIM)
    tl.store(lse_ptr + head_number.to(tl.int64) * q_len + rows, lse, mask=rows < q_len)
