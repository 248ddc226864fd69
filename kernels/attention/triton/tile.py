"""What one tile of scores means, shared by all attention kernels.

Every function takes `rows` (query numbers) and `cols` (key numbers) already shaped to broadcast, so that a tile may
have queries along its first axis ([M, 1] and [1, N]) or along its second ([1, M] and [N, 1]). Switches are constexpr:
what a call does not use leaves no trace in its code.

BIAS: 0 none, 1 ALiBi slope, 2 a vector over the relative position, 3 a dense tensor.
ORDER: 0 none, 1 key rank <= query rank, 2 key rank < query rank.
"""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from kernels.device import LOG2E, tanh

PHILOX_ROUNDS = tl.constexpr(7)  # as in kernels/attention/dropout.py


@triton.jit
def align_down(value, block: tl.constexpr):
    """`value >= 0` rounded down to a multiple of the block."""
    return value // block * block


@triton.jit
def align_up(value, block: tl.constexpr):
    return (value + block - 1) // block * block


@triton.jit
def lanes(block: tl.constexpr, WIDE: tl.constexpr):
    """0 .. block-1; 64-bit where a stride times a tile size does not fit 32 bits."""
    return tl.arange(0, block).to(tl.int64) if WIDE else tl.arange(0, block)


@triton.jit
def load_rows(base, first, stride_row, stride_dim, row, dim, length, HEAD_DIM: tl.constexpr, BOUNDED: tl.constexpr):
    """A [rows, BLOCK_D] tile from row `first` on, 0 outside the tensor; `row` and `dim` are lanes."""
    pointers = base + tl.cast(first, tl.int64) * stride_row + row[:, None] * stride_row + dim[None, :] * stride_dim
    if BOUNDED:
        tile = tl.load(pointers, mask=(first + row[:, None] < length) & (dim[None, :] < HEAD_DIM), other=0.0)
    elif dim.shape[0] != HEAD_DIM:
        tile = tl.load(pointers, mask=dim[None, :] < HEAD_DIM, other=0.0)
    else:
        tile = tl.load(pointers)
    return tile


@triton.jit
def store_rows(base, tile, first, stride_row, stride_dim, row, dim, length, HEAD_DIM: tl.constexpr):
    pointers = base + tl.cast(first, tl.int64) * stride_row + row[:, None] * stride_row + dim[None, :] * stride_dim
    inside = (first + row[:, None] < length) & (dim[None, :] < HEAD_DIM)
    tl.store(pointers, tile.to(base.dtype.element_ty), mask=inside)


@triton.jit
def capped_scores(products, scale, softcap, SOFTCAP: tl.constexpr):
    """q k^T scaled and soft-capped, before the bias."""
    scores = products * scale
    if SOFTCAP:
        scores = softcap * tanh(scores / softcap)
    return scores


@triton.jit
def add_bias(
    scores, rows, cols, slope, relative_ptr, dense_ptr, dense_row, dense_col, q_len, k_len, BIAS: tl.constexpr
):
    """`relative_ptr` at this head's vector of q_len + k_len - 1 entries; `dense_ptr` at this batch row and head."""
    if BIAS == 1:
        scores -= slope * tl.abs(cols - rows - (k_len - q_len)).to(tl.float32)
    if BIAS == 2:
        place = tl.minimum(tl.maximum(cols - rows + (q_len - 1), 0), q_len + k_len - 2)
        scores += tl.load(relative_ptr + place)
    if BIAS == 3:
        pointers = dense_ptr + rows.to(tl.int64) * dense_row + cols.to(tl.int64) * dense_col
        scores += tl.load(pointers, mask=(rows < q_len) & (cols < k_len), other=0.0).to(tl.float32)
    return scores


@triton.jit
def visible(
    rows, cols, q_segment, k_segment, q_rank, k_rank, shift, k_end, left, right,
    HAS_LEFT: tl.constexpr, HAS_RIGHT: tl.constexpr, SEGMENTS: tl.constexpr, ORDER: tl.constexpr,
):  # fmt: skip
    """bool tile: True where the query sees the key. shift = k_len - q_len; keys from k_end on do not exist."""
    seen = (cols < k_end) & (rows >= 0)
    if HAS_RIGHT:
        seen = seen & (cols - rows <= shift + right)
    if HAS_LEFT:
        seen = seen & (cols - rows >= shift - left)
    if SEGMENTS:
        seen = seen & (q_segment == k_segment) & (q_segment >= 0)
    if ORDER == 1:
        seen = seen & (k_rank <= q_rank)
    if ORDER == 2:
        seen = seen & (k_rank < q_rank)
    return seen


@triton.jit
def kept(seed, first_row, first_col, number, threshold, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """bool [M, N]: dropout's decision for rows and columns of one (batch, head); `first_col` is a multiple of 4.

    number: int64, the batch row's number times the heads, and the head. Counter (column // 4, row, number mod 2^32,
    number // 2^32) gives four words, one for each of four columns, so that the mask does not depend on the tile.
    """
    zero = tl.zeros([BLOCK_M, BLOCK_N // 4], dtype=tl.int32)
    group = zero + (first_col // 4 + tl.arange(0, BLOCK_N // 4))[None, :]
    row = zero + (first_row + tl.arange(0, BLOCK_M))[:, None]
    low = zero + number.to(tl.int32)
    high = zero + (number >> 32).to(tl.int32)
    w0, w1, w2, w3 = tl.philox(seed, group, row, low, high, PHILOX_ROUNDS)
    words = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))
    return words >= threshold.to(tl.uint32)


@triton.jit
def score_gradient(
    products, dp, lse, delta, keep, seen, rows, cols, slope, relative_ptr, dense_ptr, dense_row, dense_col,
    q_len, k_len, scale, softcap, keep_scale,
    BIAS: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """(probabilities after dropout, gradient of the biased scores, gradient of the scaled products), all float32.

    products = q k^T, dp = dO v^T; lse in log2 units, +inf for a row that sees nothing; delta = rowsum(dO * O) - dLSE.
    """
    capped = capped_scores(products, scale, softcap, SOFTCAP)
    scores = add_bias(capped, rows, cols, slope, relative_ptr, dense_ptr, dense_row, dense_col, q_len, k_len, BIAS)
    p = tl.exp2(scores * LOG2E - lse)
    if MASKED:
        p = tl.where(seen, p, 0.0)
    dropped = p
    if DROPOUT:
        dropped = tl.where(keep, p * keep_scale, 0.0)
        dp = tl.where(keep, dp * keep_scale, 0.0)
    dbiased = p * (dp - delta)
    dscaled = dbiased
    if SOFTCAP:
        ratio = capped / softcap
        dscaled = dbiased * (1.0 - ratio * ratio)
    return dropped, dbiased, dscaled
