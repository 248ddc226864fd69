"""Gradients of the bias: the T5 bucket table and the dense tensor. Each recomputes the tiles that it needs and writes
partial sums to its own place, which are then added in a fixed order; there are no atomics."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.triton.backward import load_statistics
from kernels.attention.triton.forward import key_spans
from kernels.attention.triton.spans import far_value, has_far, has_full, of_part
from kernels.attention.triton.tile import (
    MARGIN,
    kept,
    keys,
    lanes,
    load_rows,
    of_head,
    program_of,
    queries,
    score_gradient,
    sizes_of,
    visible,
)


@triton.jit
def _biased_gradient(
    row0, col0, q, k, v, dout, statistics, far, program, bias, mask, dropout, scaling, heads, sizes,
    S: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """float32 [M, N]: the gradient of the biased scores of one tile, 0 where nothing is seen.

    far: what is to be added to every score of the tile (S.even); it is taken off lse instead.
    """
    BYTES: tl.constexpr = q.ptr.dtype.element_ty.primitive_bitwidth // 8
    PART_D: tl.constexpr = 128 // BYTES if S.block_d * BYTES > 128 else S.block_d
    row = lanes(S.block_m, S.wide)
    col = lanes(S.block_n, S.wide)
    batch = program.batch
    q_head = of_head(q, batch, program.head)
    k_head = of_head(k, batch, program.head // S.groups)
    v_head = of_head(v, batch, program.head // S.groups)
    dout_head = of_head(dout, batch, program.head)
    products = tl.full([S.block_m, S.block_n], 0.0, dtype=tl.float32)
    dp = tl.full([S.block_m, S.block_n], 0.0, dtype=tl.float32)
    # 128 bytes of every row at a time, and one pair after the other: whole rows of all four would spill.
    for first in range(0, S.block_d, PART_D):
        dim = first + lanes(PART_D, S.wide)
        q_tile = load_rows(q_head, row0, row, dim, sizes.q_len, S, True)
        k_tile = load_rows(k_head, col0, col, dim, sizes.k_len, S, True)
        products = tl.dot(q_tile, tl.trans(k_tile), products, input_precision=S.precision)
        v_tile = load_rows(v_head, col0, col, dim, sizes.k_len, S, True)
        dout_tile = load_rows(dout_head, row0, row, dim, sizes.q_len, S, True)
        dp = tl.dot(dout_tile, tl.trans(v_tile), dp, input_precision=S.precision)
    offset = (batch * heads + program.head) * sizes.q_len
    lse, delta = load_statistics(statistics, offset, row0, sizes.q_len, S, S.block_m)
    if S.even:
        lse -= far
    rows = queries(row0, mask, batch, sizes, S, S.block_m, 0, MASKED)
    cols = keys(col0, mask, batch, sizes, S, S.block_n, 1, MASKED)
    seen = True
    if MASKED:
        seen = visible(rows, cols, sizes, S)
    keep = True
    if S.dropout:
        keep = kept(program, dropout, row0, col0, S.block_m, S.block_n)
    _, dbiased, _ = score_gradient(
        products, dp, lse[:, None], delta[:, None], keep, seen, rows, cols, program, bias, scaling, dropout, sizes,
        S, MASKED,
    )  # fmt: skip
    return dbiased


@triton.jit
def _add_tile(
    gradient, batch, head, row0, col0, q, k, v, dout, statistics, bias, mask, dropout, scaling, heads,
    q_len, k_len, left, right, S: tl.constexpr,
):  # fmt: skip
    """gradient plus that of one tile: nothing where no row sees a key of it, and no mask where all rows see all and,
    of a bucket table, the tile is far."""
    sizes = sizes_of(mask, batch, q_len, k_len, left, right, S)
    program = program_of(batch, head, heads, bias, dropout, S)
    rows = queries(row0, mask, batch, sizes, S, S.block_m, 0, False)
    spans = key_spans(rows, row0 + tl.arange(0, S.block_m), mask, batch, sizes, S)
    full = (col0 >= spans.full_lo) & (col0 < spans.full_hi)
    if has_far(S):
        full = full & ((col0 < spans.near_lo) | (col0 >= spans.near_hi))
    if has_full(S):  # noqa: SIM102 (one is known to the compiler)
        if full:
            far = 0.0
            if has_far(S):
                far = far_value(program, col0 >= spans.near_hi, S)
            gradient += _biased_gradient(
                row0, col0, q, k, v, dout, statistics, far, program, bias, mask, dropout, scaling, heads, sizes,
                of_part(S, 1 if has_far(S) else 2), False,
            )  # fmt: skip
    if (spans.lo <= col0) & (col0 < spans.hi) & (full == 0):
        gradient += _biased_gradient(
            row0, col0, q, k, v, dout, statistics, 0.0, program, bias, mask, dropout, scaling, heads, sizes, S, True
        )
    return gradient


@triton.jit
def bucket_of(bucket_ptr, relative, S: tl.constexpr):
    """int32, of the shape of `relative`, which is key position minus query position."""
    return tl.load(bucket_ptr + tl.minimum(tl.maximum(relative + (S.far + MARGIN), 0), 2 * (S.far + MARGIN) - 1))


@triton.jit(do_not_specialize=("batch_size", "heads", "q_len", "k_len", "left", "right", "splits", "buckets"))
def attention_table_gradient(
    q, k, v, dout, statistics, bias, bucket_ptr, partial_ptr, mask, dropout, scaling,
    batch_size, heads, q_len, k_len, left, right, splits, buckets, S: tl.constexpr,
):  # fmt: skip
    """Partial sums of the bucket table's gradient. Grid: heads * bands * splits; partial: [bands, splits, H, buckets].

    A band is one diagonal of square tiles: all its tiles have the same relative positions, hence the same buckets, so
    the tiles are added in registers and the buckets are told apart once, at the end.
    """
    BLOCK: tl.constexpr = S.block_m
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
    if S.has_right:  # the smallest relative position of the band's tiles is past the bound
        tiles = tl.where(ahead * BLOCK - (BLOCK - 1) - shift > right, 0, tiles)
    if S.has_left:
        tiles = tl.where(ahead * BLOCK + (BLOCK - 1) - shift < -left, 0, tiles)

    total = tiles * batch_size
    share = tl.cdiv(total, splits)
    gradient = tl.zeros([BLOCK, BLOCK], dtype=tl.float32)
    for number in range(split * share, tl.minimum((split + 1) * share, total)):
        batch = (number // tiles).to(tl.int64)
        row0 = (first_tile + number % tiles) * BLOCK
        gradient = _add_tile(
            gradient, batch, head, row0, row0 + ahead * BLOCK, q, k, v, dout, statistics, bias, mask, dropout,
            scaling, heads, q_len, k_len, left, right, S,
        )  # fmt: skip

    # cols - rows is the same for every tile of the band, and most bands hold one or two buckets.
    origin = ahead * BLOCK - shift
    bucket = bucket_of(bucket_ptr, origin + tl.arange(0, BLOCK)[None, :] - tl.arange(0, BLOCK)[:, None], S)
    held = bucket_of(bucket_ptr, origin + 1 - BLOCK + tl.minimum(tl.arange(0, 2 * BLOCK), 2 * BLOCK - 2), S)
    lowest = tl.min(held)
    highest = tl.max(held)
    out = partial_ptr + ((band.to(tl.int64) * splits + split) * heads + head) * buckets
    for number in range(buckets):
        part = 0.0
        if (lowest <= number) & (number <= highest):
            part = tl.sum(tl.where(bucket == number, gradient, 0.0))
        tl.store(out + number, part)


@triton.jit(do_not_specialize=("batch_size", "heads", "q_len", "k_len", "left", "right"))
def attention_dense_gradient(
    q, k, v, dout, statistics, bias, partial, mask, dropout, scaling,
    batch_size, heads, q_len, k_len, left, right,
    S: tl.constexpr, ONE_BATCH: tl.constexpr, ONE_HEAD: tl.constexpr, ONE_ROW: tl.constexpr, ONE_COL: tl.constexpr,
):  # fmt: skip
    """Gradient of a dense bias. Grid: the bias's own batch rows * heads * query tiles * key tiles.

    ONE_*: the bias has size 1 there. Over batch and heads a program then sums itself, in their order; over rows and
    columns it writes one partial row (column) a tile. partial: as `bias`.
    """
    q_tiles = tl.cdiv(q_len, S.block_m)
    k_tiles = tl.cdiv(k_len, S.block_n)
    k_tile = tl.program_id(0) % k_tiles
    q_tile = tl.program_id(0) // k_tiles % q_tiles
    rest = tl.program_id(0) // k_tiles // q_tiles
    row0 = q_tile * S.block_m
    col0 = k_tile * S.block_n
    own_heads = 1 if ONE_HEAD else heads
    own_batch = rest // own_heads
    own_head = rest % own_heads

    gradient = tl.full([S.block_m, S.block_n], 0.0, dtype=tl.float32)
    summed_heads = heads if ONE_HEAD else 1
    summed = summed_heads * (batch_size if ONE_BATCH else 1)
    for number in range(summed):
        batch = (own_batch + number // summed_heads).to(tl.int64)
        head = (own_head + number % summed_heads).to(tl.int64)
        gradient = _add_tile(
            gradient, batch, head, row0, col0, q, k, v, dout, statistics, bias, mask, dropout, scaling, heads,
            q_len, k_len, left, right, S,
        )  # fmt: skip

    out = partial.ptr + own_batch.to(tl.int64) * partial.batch + own_head.to(tl.int64) * partial.head
    rows = row0 + tl.arange(0, S.block_m)
    cols = col0 + tl.arange(0, S.block_n)
    if ONE_ROW and ONE_COL:
        tl.store(out + q_tile * partial.row + k_tile * partial.dim, tl.sum(gradient))
    elif ONE_ROW:
        tl.store(out + q_tile * partial.row + cols * partial.dim, tl.sum(gradient, 0), mask=cols < k_len)
    elif ONE_COL:
        tl.store(out + rows.to(tl.int64) * partial.row + k_tile * partial.dim, tl.sum(gradient, 1), mask=rows < q_len)
    else:
        pointers = out + rows.to(tl.int64)[:, None] * partial.row + cols[None, :] * partial.dim
        tl.store(pointers, gradient, mask=(rows[:, None] < q_len) & (cols[None, :] < k_len))
