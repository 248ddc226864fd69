"""The forward kernel: one program holds a tile of queries and walks over the keys it may see (FlashAttention-2,
arXiv 2307.08691, algorithm 1), keeping a running maximum, sum and output. Memory is O(S)."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.triton.spans import PARTS, far_bias, has_full, is_masked, of_part, span, spans_of, walked
from kernels.attention.triton.tile import (
    decay,
    kept,
    keys,
    lanes,
    load_rows,
    log_sum,
    of_head,
    program_of,
    queries,
    row_peak,
    scores_of,
    sizes_of,
    store_rows,
    to_unit,
    visible,
    weight,
)

UNSPECIALISED = ("heads", "q_len", "k_len", "left", "right")


@triton.jit
def query_tile(q_len, heads, BLOCK: tl.constexpr):
    """(first row, batch row, head) of a program that holds a tile of queries."""
    tiles = tl.cdiv(q_len, BLOCK)
    number = tl.program_id(0) // tiles
    # The last tile of a causal sequence has the most work: it goes first.
    first = (tiles - 1 - tl.program_id(0) % tiles) * BLOCK
    return first, (number // heads).to(tl.int64), (number % heads).to(tl.int64)


@triton.jit
def key_spans(rows, at, mask, batch, sizes, S: tl.constexpr):
    """The spans of keys for a tile of queries; `at` are their numbers."""
    reaches = mask.reaches
    if S.segments:
        reaches += batch * mask.segment_rows * 3 * sizes.q_len
    last = tl.minimum(rows.first + S.block_m, sizes.q_len) - 1
    return spans_of(
        rows.first, last, at, sizes.q_len, sizes.q_len, sizes.k_end, sizes.k_end, sizes.shift, sizes.left, sizes.right,
        reaches, S.has_left, S.has_right, False, S, S.block_n,
    )  # fmt: skip


@triton.jit
def source_of(tensor, length, S: tl.constexpr, DESCRIBED: tl.constexpr, BLOCK: tl.constexpr):
    """What tiles of BLOCK rows are loaded from: the operand of a head, or a descriptor of its rows below `length`."""
    if DESCRIBED:
        # A row at least: the hardware knows no empty tensor, and of one nothing is loaded.
        source = tl.make_tensor_descriptor(
            tensor.ptr, [tl.maximum(length, 1), S.head_dim], [tensor.row, 1], [BLOCK, S.block_d]
        )
    else:
        source = tensor
    return source


@triton.jit
def rows_of(source, first, row, dim, length, S: tl.constexpr, DESCRIBED: tl.constexpr, BOUNDED: tl.constexpr):
    """The tile of a source from row `first` on, 0 outside the tensor."""
    if DESCRIBED:
        tile = source.load([tl.cast(first, tl.int32), 0])
    else:
        tile = load_rows(source, first, row, dim, length, S, BOUNDED)
    return tile


@triton.jit
def whole(spans):
    """[lo, hi) as one span. Triton 3.7 specialises warps only where a kernel has one loop with products, without a
    branch in it: that one takes the mask on every tile."""
    return spans.lo.to(tl.int64), spans.hi.to(tl.int64)


@triton.jit
def _walk(
    acc, peak, total, q, start, stop, rows, k_source, v_source, far, program, bias, mask, scaling, dropout, sizes,
    S: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Fold the key tiles of [start, stop) into (acc, peak, total); peak in the unit of statistics.

    far: what is to be added to every score of these tiles (S.even); the rows' peaks get it instead.
    """
    col = lanes(S.block_n, S.wide)
    dim = lanes(S.block_d, S.wide)
    for place in tl.range(start, stop, S.block_n, warp_specialize=S.specialized):
        first = tl.cast(place, tl.int32)
        k = rows_of(k_source, place, col, dim, sizes.k_end, S, S.descriptors, MASKED)
        v = rows_of(v_source, place, col, dim, sizes.k_end, S, S.descriptors, MASKED)
        cols = keys(first, mask, program.batch, sizes, S, S.block_n, 1, MASKED)
        products = tl.dot(q, tl.trans(k), input_precision=S.precision)
        scores, _ = scores_of(products, rows, cols, program, bias, scaling, sizes, S)
        if MASKED:
            scores = tl.where(visible(rows, cols, sizes, S), scores, float("-inf"))
        tile_peak = row_peak(scores, scaling, S)
        if S.even:
            tile_peak += far
        new_peak = tl.maximum(peak, tile_peak)
        origin = new_peak
        if MASKED or S.bias > 1 or S.even:
            # A row that has seen nothing yet, or only biases of -inf, has that peak; 0 in its place avoids inf - inf.
            origin = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        shrink = decay(peak - origin, S)
        if S.even:
            origin -= far
        p = weight(scores, origin[:, None], scaling, S)
        total = total * shrink + tl.sum(p, 1)
        if S.dropout:
            p = tl.where(kept(program, dropout, rows.first, first, S.block_m, S.block_n), p, 0.0)
        acc = acc * shrink[:, None]
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision=S.precision)
        peak = new_peak
    return acc, peak, total


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_forward(
    q, k, v, out, lse_ptr, sink_ptr, bias, mask, dropout, scaling, heads, q_len, k_len, left, right, S: tl.constexpr
):
    """Grid: batch * heads * tiles of queries. Writes out and lse (natural log, -inf for a row that sees nothing)."""
    row0, batch, head = query_tile(q_len, heads, S.block_m)
    sizes = sizes_of(mask, batch, q_len, k_len, left, right, S)
    program = program_of(batch, head, heads, bias, dropout, S)
    rows = queries(row0, mask, batch, sizes, S, S.block_m, 0, True)
    at = row0 + tl.arange(0, S.block_m)
    row = lanes(S.block_m, S.wide)
    dim = lanes(S.block_d, S.wide)
    q_source = source_of(of_head(q, batch, head), q_len, S, S.specialized, S.block_m)
    k_source = source_of(of_head(k, batch, head // S.groups), sizes.k_end, S, S.descriptors, S.block_n)
    v_source = source_of(of_head(v, batch, head // S.groups), sizes.k_end, S, S.descriptors, S.block_n)
    tile = rows_of(q_source, row0, row, dim, q_len, S, S.specialized, True)

    peak = tl.full([S.block_m], float("-inf"), dtype=tl.float32)
    total = tl.full([S.block_m], 0.0, dtype=tl.float32)
    if S.sink:
        # The sink is a key that was seen first: its logit is the peak so far, and its weight exp2(0) the sum.
        peak = tl.full([S.block_m], 0.0, dtype=tl.float32) + to_unit(tl.load(sink_ptr + head).to(tl.float32), S)
        total = tl.full([S.block_m], 0.0, dtype=tl.float32) + 1.0
    acc = tl.full([S.block_m, S.block_d], 0.0, dtype=tl.float32)
    spans = key_spans(rows, at, mask, batch, sizes, S)
    for part in tl.static_range(PARTS):
        if walked(part, S, S.has_left, S.has_right, False, True) and not (S.specialized and part < 4):
            start, stop = whole(spans) if S.specialized else span(spans, part, not has_full(S))
            acc, peak, total = _walk(
                acc, peak, total, tile, start, stop, rows, k_source, v_source, far_bias(program, part, True, S),
                program, bias, mask, scaling, dropout, sizes, of_part(S, part), is_masked(part),
            )  # fmt: skip

    empty = total == 0.0
    safe_total = tl.where(empty, 1.0, total)
    acc = acc / safe_total[:, None]
    if S.dropout:
        acc = acc * dropout.scale
    lse = tl.where(empty, float("-inf"), log_sum(peak, safe_total, S))
    store_rows(of_head(out, batch, head), acc, row0, row, dim, q_len, S)
    tl.store(lse_ptr + (batch * heads + head) * q_len + at, lse, mask=at < q_len)
