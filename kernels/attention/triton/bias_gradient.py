"""Gradients of the bias: the T5 bucket table and the dense tensor. Each recomputes the tiles that it needs and writes
partial sums to its own place, which are then added in a fixed order; there are no atomics."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.triton.backward import load_statistics
from kernels.attention.triton.tile import kept, lanes, load_rows, score_gradient, visible


@triton.jit
def _biased_gradient(
    batch, head, row0, col0, q_ptr, k_ptr, v_ptr, dout_ptr, lse_ptr, delta_ptr, relative_ptr, dense_ptr,
    q_segment_ptr, k_segment_ptr, k_lens_ptr, q_rank_ptr, k_rank_ptr, seed, dropout_rows_ptr,
    stride_qb, stride_qm, stride_qh, stride_qd, stride_kb, stride_kn, stride_kh, stride_kd,
    stride_vb, stride_vn, stride_vh, stride_vd, stride_gb, stride_gm, stride_gh, stride_gd,
    stride_dense_b, stride_dense_h, stride_dense_m, stride_dense_n,
    stride_q_segment, stride_k_segment, stride_k_lens, stride_q_rank, stride_k_rank,
    scale, softcap, threshold, keep_scale, heads, q_len, k_len, left, right,
    GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, BIAS: tl.constexpr, SEGMENTS: tl.constexpr,
    K_LENS: tl.constexpr, ORDER: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr, WIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """float32 [M, N]: the gradient of the biased scores of one tile, 0 where nothing is seen."""
    BYTES: tl.constexpr = q_ptr.dtype.element_ty.primitive_bitwidth // 8
    PART_D: tl.constexpr = 128 // BYTES if BLOCK_D * BYTES > 128 else BLOCK_D
    rows = row0 + tl.arange(0, BLOCK_M)
    cols = col0 + tl.arange(0, BLOCK_N)
    row = lanes(BLOCK_M, WIDE)
    col = lanes(BLOCK_N, WIDE)
    kv_head = head // GROUPS
    q_base = q_ptr + batch * stride_qb + head * stride_qh
    k_base = k_ptr + batch * stride_kb + kv_head * stride_kh
    v_base = v_ptr + batch * stride_vb + kv_head * stride_vh
    dout_base = dout_ptr + batch * stride_gb + head * stride_gh
    products = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    dp = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    # 128 bytes of every row at a time, and one pair after the other: whole rows of all four would spill.
    for first in range(0, BLOCK_D, PART_D):
        dim = first + lanes(PART_D, WIDE)
        q = load_rows(q_base, row0, stride_qm, stride_qd, row, dim, q_len, HEAD_DIM, True)
        k = load_rows(k_base, col0, stride_kn, stride_kd, col, dim, k_len, HEAD_DIM, True)
        products = tl.dot(q, tl.trans(k), products, input_precision=PRECISION)
        v = load_rows(v_base, col0, stride_vn, stride_vd, col, dim, k_len, HEAD_DIM, True)
        dout = load_rows(dout_base, row0, stride_gm, stride_gd, row, dim, q_len, HEAD_DIM, True)
        dp = tl.dot(dout, tl.trans(v), dp, input_precision=PRECISION)
    statistics = (batch * heads + head) * q_len
    lse, delta = load_statistics(lse_ptr + statistics, delta_ptr + statistics, rows, q_len)

    k_end = k_len
    if K_LENS:
        k_end = tl.maximum(tl.minimum(k_len, tl.load(k_lens_ptr + batch * stride_k_lens)), 0)
    q_segment = 0
    k_segment = 0
    if SEGMENTS:
        q_segment = tl.load(q_segment_ptr + batch * stride_q_segment + rows, mask=rows < q_len, other=-1)[:, None]
        k_segment = tl.load(k_segment_ptr + batch * stride_k_segment + cols, mask=cols < k_len, other=-1)[None, :]
    q_rank = 0
    k_rank = 0
    if ORDER > 0:
        q_rank = tl.load(q_rank_ptr + batch * stride_q_rank + rows, mask=rows < q_len, other=0)[:, None]
        k_rank = tl.load(k_rank_ptr + batch * stride_k_rank + cols, mask=cols < k_len, other=0)[None, :]
    seen = visible(
        rows[:, None], cols[None, :], q_segment, k_segment, q_rank, k_rank, k_len - q_len, k_end, left, right,
        HAS_LEFT, HAS_RIGHT, SEGMENTS, ORDER,
    )  # fmt: skip
    keep = True
    if DROPOUT:
        number = tl.load(dropout_rows_ptr + batch) * heads + head
        keep = kept(seed, row0, col0, number, threshold, BLOCK_M, BLOCK_N)
    if BIAS == 2:
        relative_ptr += head * (q_len + k_len - 1)
    if BIAS == 3:
        dense_ptr += batch * stride_dense_b + head * stride_dense_h
    _, dbiased, _ = score_gradient(
        products, dp, lse[:, None], delta[:, None], keep, seen, rows[:, None], cols[None, :],
        0.0, relative_ptr, dense_ptr, stride_dense_m, stride_dense_n, q_len, k_len, scale, softcap, keep_scale,
        BIAS, SOFTCAP, DROPOUT, True,
    )  # fmt: skip
    return dbiased


@triton.jit
def attention_table_gradient(
    q_ptr, k_ptr, v_ptr, dout_ptr, lse_ptr, delta_ptr, relative_ptr, bucket_ptr, partial_ptr,
    q_segment_ptr, k_segment_ptr, q_lo_ptr, q_hi_ptr, k_lens_ptr, q_rank_ptr, k_rank_ptr, seed_ptr, dropout_rows_ptr,
    stride_qb, stride_qm, stride_qh, stride_qd, stride_kb, stride_kn, stride_kh, stride_kd,
    stride_vb, stride_vn, stride_vh, stride_vd, stride_gb, stride_gm, stride_gh, stride_gd,
    stride_q_segment, stride_k_segment, stride_k_lens, stride_q_rank, stride_k_rank,
    scale, softcap, threshold, keep_scale, batch_size, heads, q_len, k_len, left, right, splits, buckets,
    GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, SEGMENTS: tl.constexpr,
    K_LENS: tl.constexpr, ORDER: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Partial sums of the bucket table's gradient. Grid: heads * bands * splits; partial: [bands, splits, H, buckets].

    A band is one diagonal of square tiles: all its tiles have the same relative positions, hence the same buckets, so
    the tiles are added in registers and the buckets are told apart once, at the end.
    """
    q_tiles = tl.cdiv(q_len, BLOCK)
    k_tiles = tl.cdiv(k_len, BLOCK)
    bands = q_tiles + k_tiles - 1
    split = tl.program_id(0) % splits
    band = tl.program_id(0) // splits % bands
    head = (tl.program_id(0) // splits // bands).to(tl.int64)
    ahead = band - (q_tiles - 1)  # key tile minus query tile
    first_tile = tl.maximum(0, -ahead)
    tiles = tl.minimum(q_tiles, k_tiles - ahead) - first_tile
    shift = k_len - q_len
    if HAS_RIGHT:  # the smallest relative position of the band's tiles is past the bound
        tiles = tl.where(ahead * BLOCK - (BLOCK - 1) - shift > right, 0, tiles)
    if HAS_LEFT:
        tiles = tl.where(ahead * BLOCK + (BLOCK - 1) - shift < -left, 0, tiles)
    seed = 0
    if DROPOUT:
        seed = tl.load(seed_ptr)

    total = tiles * batch_size
    share = tl.cdiv(total, splits)
    gradient = tl.zeros([BLOCK, BLOCK], dtype=tl.float32)
    for number in range(split * share, tl.minimum((split + 1) * share, total)):
        batch = (number // tiles).to(tl.int64)
        row0 = (first_tile + number % tiles) * BLOCK
        col0 = row0 + ahead * BLOCK
        touches = True
        if SEGMENTS:
            rows = row0 + tl.arange(0, BLOCK)
            inside = rows < q_len
            lo = tl.min(tl.load(q_lo_ptr + batch * stride_q_segment + rows, mask=inside, other=2147483647))
            hi = tl.max(tl.load(q_hi_ptr + batch * stride_q_segment + rows, mask=inside, other=0))
            touches = (lo < col0 + BLOCK) & (hi > col0)
        if touches:
            gradient += _biased_gradient(
                batch, head, row0, col0, q_ptr, k_ptr, v_ptr, dout_ptr, lse_ptr, delta_ptr, relative_ptr, None,
                q_segment_ptr, k_segment_ptr, k_lens_ptr, q_rank_ptr, k_rank_ptr, seed, dropout_rows_ptr,
                stride_qb, stride_qm, stride_qh, stride_qd, stride_kb, stride_kn, stride_kh, stride_kd,
                stride_vb, stride_vn, stride_vh, stride_vd, stride_gb, stride_gm, stride_gh, stride_gd,
                0, 0, 0, 0, stride_q_segment, stride_k_segment, stride_k_lens, stride_q_rank, stride_k_rank,
                scale, softcap, threshold, keep_scale, heads, q_len, k_len, left, right,
                GROUPS, HEAD_DIM, BLOCK_D, HAS_LEFT, HAS_RIGHT, 2, SEGMENTS,
                K_LENS, ORDER, SOFTCAP, DROPOUT, PRECISION, WIDE, BLOCK, BLOCK,
            )  # fmt: skip

    # cols - rows + q_len - 1 is the same for every tile of the band; entries outside the vector belong to no pair.
    offset = tl.arange(0, BLOCK)[None, :] - tl.arange(0, BLOCK)[:, None]
    place = ahead * BLOCK + offset + (q_len - 1)
    bucket = tl.load(bucket_ptr + place, mask=(place >= 0) & (place < q_len + k_len - 1), other=-1)
    out = partial_ptr + ((band.to(tl.int64) * splits + split) * heads + head) * buckets
    for number in range(buckets):
        tl.store(out + number, tl.sum(tl.where(bucket == number, gradient, 0.0)))


@triton.jit
def attention_dense_gradient(
    q_ptr, k_ptr, v_ptr, dout_ptr, lse_ptr, delta_ptr, dense_ptr, partial_ptr,
    q_segment_ptr, k_segment_ptr, k_lens_ptr, q_rank_ptr, k_rank_ptr, seed_ptr, dropout_rows_ptr,
    stride_qb, stride_qm, stride_qh, stride_qd, stride_kb, stride_kn, stride_kh, stride_kd,
    stride_vb, stride_vn, stride_vh, stride_vd, stride_gb, stride_gm, stride_gh, stride_gd,
    stride_dense_b, stride_dense_h, stride_dense_m, stride_dense_n,
    stride_q_segment, stride_k_segment, stride_k_lens, stride_q_rank, stride_k_rank,
    stride_pb, stride_ph, stride_pm, stride_pn,
    scale, softcap, threshold, keep_scale, batch_size, heads, q_len, k_len, left, right,
    GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, SEGMENTS: tl.constexpr,
    K_LENS: tl.constexpr, ORDER: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr,
    ONE_BATCH: tl.constexpr, ONE_HEAD: tl.constexpr, ONE_ROW: tl.constexpr, ONE_COL: tl.constexpr,
    PRECISION: tl.constexpr, WIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradient of a dense bias. Grid: the bias's own batch rows * heads * query tiles * key tiles.

    ONE_*: the bias has size 1 there. Over batch and heads a program then sums itself, in their order; over rows and
    columns it writes one partial row (column) a tile.
    """
    q_tiles = tl.cdiv(q_len, BLOCK_M)
    k_tiles = tl.cdiv(k_len, BLOCK_N)
    k_tile = tl.program_id(0) % k_tiles
    q_tile = tl.program_id(0) // k_tiles % q_tiles
    rest = tl.program_id(0) // k_tiles // q_tiles
    row0 = q_tile * BLOCK_M
    col0 = k_tile * BLOCK_N
    own_heads = 1 if ONE_HEAD else heads
    own_batch = rest // own_heads
    own_head = rest % own_heads
    seed = 0
    if DROPOUT:
        seed = tl.load(seed_ptr)

    gradient = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    summed_heads = heads if ONE_HEAD else 1
    summed = summed_heads * (batch_size if ONE_BATCH else 1)
    for number in range(summed):
        batch = (own_batch + number // summed_heads).to(tl.int64)
        head = (own_head + number % summed_heads).to(tl.int64)
        gradient += _biased_gradient(
            batch, head, row0, col0, q_ptr, k_ptr, v_ptr, dout_ptr, lse_ptr, delta_ptr, None, dense_ptr,
            q_segment_ptr, k_segment_ptr, k_lens_ptr, q_rank_ptr, k_rank_ptr, seed, dropout_rows_ptr,
            stride_qb, stride_qm, stride_qh, stride_qd, stride_kb, stride_kn, stride_kh, stride_kd,
            stride_vb, stride_vn, stride_vh, stride_vd, stride_gb, stride_gm, stride_gh, stride_gd,
            stride_dense_b, stride_dense_h, stride_dense_m, stride_dense_n,
            stride_q_segment, stride_k_segment, stride_k_lens, stride_q_rank, stride_k_rank,
            scale, softcap, threshold, keep_scale, heads, q_len, k_len, left, right,
            GROUPS, HEAD_DIM, BLOCK_D, HAS_LEFT, HAS_RIGHT, 3, SEGMENTS,
            K_LENS, ORDER, SOFTCAP, DROPOUT, PRECISION, WIDE, BLOCK_M, BLOCK_N,
        )  # fmt: skip

    out = partial_ptr + own_batch.to(tl.int64) * stride_pb + own_head.to(tl.int64) * stride_ph
    rows = row0 + tl.arange(0, BLOCK_M)
    cols = col0 + tl.arange(0, BLOCK_N)
    if ONE_ROW and ONE_COL:
        tl.store(out + q_tile * stride_pm + k_tile * stride_pn, tl.sum(gradient))
    elif ONE_ROW:
        tl.store(out + q_tile * stride_pm + cols * stride_pn, tl.sum(gradient, 0), mask=cols < k_len)
    elif ONE_COL:
        tl.store(out + rows.to(tl.int64) * stride_pm + k_tile * stride_pn, tl.sum(gradient, 1), mask=rows < q_len)
    else:
        pointers = out + rows.to(tl.int64)[:, None] * stride_pm + cols[None, :] * stride_pn
        tl.store(pointers, gradient, mask=(rows[:, None] < q_len) & (cols[None, :] < k_len))
