"""What one tile of scores means, shared by all attention kernels.

A tile may have queries along its first axis or along its second: `Line`s are vectors shaped to broadcast. `S` are the
`Switches`: what a call does not use leaves no trace in its code.

Scores stand in a unit of their own, so that one multiplication serves the scale and the change to exp2: log2 units
(score * LOG2E) in general; raw products, which `weight` scales, where nothing stands between them and the softmax
(`folded`); natural units under a dense bias, whose finfo.min times LOG2E is no number.
"""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.triton.buckets import MARGIN as _MARGIN
from kernels.attention.triton.operands import Line, Operand, Program, Sizes
from kernels.device import LN2, LOG2E, tanh

MARGIN = tl.constexpr(_MARGIN)
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
def across(vector, AXIS: tl.constexpr):
    """The vector along this axis of a tile."""
    return vector[:, None] if AXIS == 0 else vector[None, :]


@triton.jit
def of_head(tensor, batch, head):
    """The operand of one head of one batch row."""
    return Operand(
        tensor.ptr + batch * tensor.batch + head * tensor.head, tensor.batch, tensor.row, tensor.head, tensor.dim
    )


@triton.jit
def load_rows(tensor, first, row, dim, length, S: tl.constexpr, BOUNDED: tl.constexpr):
    """A [rows, BLOCK_D] tile from row `first` on, 0 outside the tensor; `row` and `dim` are lanes."""
    pointers = (
        tensor.ptr + tl.cast(first, tl.int64) * tensor.row + row[:, None] * tensor.row + dim[None, :] * tensor.dim
    )
    if BOUNDED:
        tile = tl.load(pointers, mask=(first + row[:, None] < length) & (dim[None, :] < S.head_dim), other=0.0)
    elif dim.shape[0] != S.head_dim:
        tile = tl.load(pointers, mask=dim[None, :] < S.head_dim, other=0.0)
    else:
        tile = tl.load(pointers)
    return tile


@triton.jit
def store_rows(tensor, tile, first, row, dim, length, S: tl.constexpr):
    pointers = (
        tensor.ptr + tl.cast(first, tl.int64) * tensor.row + row[:, None] * tensor.row + dim[None, :] * tensor.dim
    )
    inside = (first + row[:, None] < length) & (dim[None, :] < S.head_dim)
    tl.store(pointers, tile.to(tensor.ptr.dtype.element_ty), mask=inside)


@triton.jit
def sizes_of(mask, batch, q_len, k_len, left, right, S: tl.constexpr):
    k_end = k_len
    if S.k_lens:
        k_end = tl.maximum(tl.minimum(k_len, tl.load(mask.k_lens + batch * mask.lens_rows)), 0)
    return Sizes(q_len, k_len, k_len - q_len, k_end, left, right)


@triton.jit
def program_of(batch, head, heads, bias, dropout, S: tl.constexpr):
    """batch, head: int64."""
    at = 0
    seed = 0
    number = 0
    if S.bias > 0:
        at = bias.ptr + batch * bias.batch + head * bias.head
    if S.bias == 1:
        at = tl.load(at).to(tl.float32) * LOG2E
    if S.dropout:
        seed = tl.load(dropout.seed)
        number = tl.load(dropout.rows + batch) * heads + head
    return Program(batch, head, at, seed, number)


@triton.jit
def queries(first, mask, batch, sizes, S: tl.constexpr, BLOCK: tl.constexpr, AXIS: tl.constexpr, MASKED: tl.constexpr):
    """The `Line` of BLOCK queries; segments and ranks where a mask asks for them."""
    at = first + tl.arange(0, BLOCK)
    segment = 0
    rank = 0
    if MASKED and S.segments:
        pointers = mask.q_segments + batch * mask.segment_rows * sizes.q_len + at
        segment = tl.load(pointers, mask=at < sizes.q_len, other=-1)
        segment = across(tl.where(segment < 0, -2, segment), AXIS)  # equal to no key's
    if MASKED and S.order > 0:
        pointers = mask.q_ranks + batch * mask.rank_rows * sizes.q_len + at
        rank = across(tl.load(pointers, mask=at < sizes.q_len, other=0), AXIS)
    return Line(first, across(at, AXIS), segment, rank)


@triton.jit
def keys(first, mask, batch, sizes, S: tl.constexpr, BLOCK: tl.constexpr, AXIS: tl.constexpr, MASKED: tl.constexpr):
    at = first + tl.arange(0, BLOCK)
    segment = 0
    rank = 0
    if MASKED and S.segments:
        pointers = mask.k_segments + batch * mask.segment_rows * sizes.k_len + at
        segment = across(tl.maximum(tl.load(pointers, mask=at < sizes.k_end, other=-1), -1), AXIS)
    if MASKED and S.order > 0:
        pointers = mask.k_ranks + batch * mask.rank_rows * sizes.k_len + at
        rank = across(tl.load(pointers, mask=at < sizes.k_end, other=0), AXIS)
    return Line(first, across(at, AXIS), segment, rank)


@triton.jit
def visible(rows, cols, sizes, S: tl.constexpr):
    """bool tile: True where the query sees the key."""
    last = sizes.k_end - 1
    if S.has_right:
        last = tl.minimum(rows.at + (sizes.shift + sizes.right), last)
    seen = cols.at <= last
    if S.has_left:
        seen = seen & (cols.at >= rows.at + (sizes.shift - sizes.left))
    if S.segments:
        seen = seen & (rows.segment == cols.segment)
    if S.order == 1:
        seen = seen & (cols.rank <= rows.rank)
    if S.order == 2:
        seen = seen & (cols.rank < rows.rank)
    return seen


@triton.jit
def kept(program, dropout, first_row, first_col, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """bool [M, N]: dropout's decision for rows and columns of one (batch, head); `first_col` is a multiple of 4.

    program.number: the batch row's number times the heads, and the head. Counter (column // 4, row, number mod 2^32,
    number // 2^32) gives four words, one for each of four columns, so that the mask does not depend on the tile.
    """
    zero = tl.zeros([BLOCK_M, BLOCK_N // 4], dtype=tl.int32)
    group = zero + (first_col // 4 + tl.arange(0, BLOCK_N // 4))[None, :]
    row = zero + (first_row + tl.arange(0, BLOCK_M))[:, None]
    low = zero + program.number.to(tl.int32)
    high = zero + (program.number >> 32).to(tl.int32)
    w0, w1, w2, w3 = tl.philox(program.seed, group, row, low, high, PHILOX_ROUNDS)
    words = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))
    return words >= dropout.threshold.to(tl.uint32, bitcast=True)


@triton.constexpr_function
def is_folded(S):
    return S.folded and S.bias == 0


@triton.jit
def bias_place(vector, rows, cols, sizes, S: tl.constexpr):
    """Where a tile's values stand in the vector over relative positions.

    The vector goes on so far beyond the last change that only the tile's corner must be kept inside of it: elements
    then differ from one base by what the compiler knows.
    """
    tl.static_assert(S.block_m <= MARGIN // 2 and S.block_n <= MARGIN // 2)
    most: tl.constexpr = S.far + MARGIN // 2
    corner = tl.minimum(tl.maximum(cols.first - rows.first - sizes.shift, -most), most)
    return vector + (corner + S.far + MARGIN) + ((cols.at - cols.first) - (rows.at - rows.first))


@triton.jit
def scores_of(products, rows, cols, program, bias, scaling, sizes, S: tl.constexpr):
    """(biased scores in their unit, tanh of the soft-cap) from q k^T."""
    ratio = products
    if S.softcap:
        ratio = tanh(products * scaling.inner)
        scores = ratio * scaling.outer
    elif is_folded(S):
        scores = products
    else:
        scores = products * scaling.factor
    if S.bias == 1:
        scores -= program.bias * tl.abs(cols.at - rows.at - sizes.shift).to(tl.float32)
    if S.bias == 2:
        scores += tl.load(bias_place(program.bias, rows, cols, sizes, S))
    if S.bias == 3:
        pointers = program.bias + rows.at.to(tl.int64) * bias.row + cols.at.to(tl.int64) * bias.dim
        inside = (rows.at < sizes.q_len) & (cols.at < sizes.k_len)
        scores += tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
    return scores, ratio


@triton.jit
def row_peak(scores, scaling, S: tl.constexpr):
    """The largest of each row, in the unit of statistics: natural under a dense bias, else log2."""
    peak = tl.max(scores, 1)
    return peak * scaling.factor if is_folded(S) else peak


@triton.jit
def weight(scores, origin, scaling, S: tl.constexpr):
    """exp(score - origin); origin, in the unit of statistics, is shaped to broadcast."""
    return decay(scores * scaling.factor - origin if is_folded(S) else scores - origin, S)


@triton.jit
def decay(difference, S: tl.constexpr):
    """exp of a difference of two values in the unit of statistics."""
    return tl.exp2(difference * LOG2E if S.bias == 3 else difference)


@triton.jit
def to_unit(natural, S: tl.constexpr):
    """Natural units to the unit of statistics."""
    return natural if S.bias == 3 else natural * LOG2E


@triton.jit
def log_sum(peak, total, S: tl.constexpr):
    """peak (in the unit of statistics) + log(total), in natural units."""
    return peak + tl.log2(total) * LN2 if S.bias == 3 else (peak + tl.log2(total)) * LN2


@triton.jit
def score_gradient(
    products, dp, lse, delta, keep, seen, rows, cols, program, bias, scaling, dropout, sizes,
    S: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """(probabilities after dropout, gradient of the biased scores, gradient of the scaled products), all float32.

    products = q k^T, dp = dO v^T; lse in the unit of statistics, +inf for a row that sees nothing;
    delta = rowsum(dO * O) - dLSE.
    """
    scores, ratio = scores_of(products, rows, cols, program, bias, scaling, sizes, S)
    p = weight(scores, lse, scaling, S)
    if MASKED:
        p = tl.where(seen, p, 0.0)
    dropped = p
    if S.dropout:
        dropped = tl.where(keep, p * dropout.scale, 0.0)
        dp = tl.where(keep, dp * dropout.scale, 0.0)
    dbiased = p * (dp - delta)
    dscaled = dbiased
    if S.softcap:
        dscaled = dbiased * (1.0 - ratio * ratio)
    return dropped, dbiased, dscaled
