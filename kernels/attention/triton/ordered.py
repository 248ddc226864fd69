"""The backward pass in one walk: the programs of dK and dV add what they find of dQ too, in one order.

Two passes form the scores and their exponentials twice, in 7 products; one walk takes 5 (FlashAttention-2, arXiv
2307.08691, algorithm 2, which adds dQ in whatever order programs arrive). Here the tiles of keys of a head add to a
tile of queries from the last to the first, each when its turn has come: the memory adds (nobody waits for the old
value), but never for two at once, so that every sum has one order and repeated runs agree bit for bit.

Whom a program waits for. Let tile j of keys walk over the queries [lo_j, hi_j), upwards. Both bounds rise with j (where
segments break that, their running bounds are taken: `hull`), so the tiles of keys that meet a tile of queries are a
stretch of numbers, and the one before j in it, if any, is j + 1. Each program tells in a counter of its own below which
query it has added (release), and looks at that of j + 1 (acquire) at a query beyond what it saw there last.

Why nobody waits for ever. A program takes its number from a ticket when it begins (as in decoupled look-back, Merrill
and Garland, NVR-2016-002), and waits only for a smaller number, which has thus begun, in whatever order the chip starts
programs and however few it holds. The smallest number that is not done waits for nobody.

Under a causal mask nobody waits long: tile j begins at the queries of its own diagonal, where it is the first, and
meets those above just after j + 1 has. Without one, tile j lags one step behind j + 1. Few tiles of a head run at a
time, because numbers go over HEADS_TOGETHER heads first, whose queries lie in the cache together.
"""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.triton.backward import load_statistics, query_spans
from kernels.attention.triton.forward import UNSPECIALISED
from kernels.attention.triton.operands import Spans
from kernels.attention.triton.spans import PARTS, has_full, is_masked, span, walked
from kernels.attention.triton.tile import (
    align_down,
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
    visible,
)

HEADS_TOGETHER = tl.constexpr(8)
DONE = tl.constexpr(2147483647)


@triton.jit
def numbered(turn, tiles, all_heads):
    """(tile of keys, kv head counted over the batch) of the program that began as number `turn`."""
    chunk = turn // (HEADS_TOGETHER * tiles)
    together = tl.minimum(all_heads - chunk * HEADS_TOGETHER, HEADS_TOGETHER)
    place = turn - chunk * HEADS_TOGETHER * tiles
    return tiles - 1 - place // together, chunk * HEADS_TOGETHER + place % together


@triton.jit
def limits(first, hull, sizes, S: tl.constexpr):
    """[lo, hi) of the queries that the tile of keys from `first` on walks over; lo is a multiple of the tile.

    Neither falls as `first` rises, but that no tile from k_end on meets anything.
    """
    last = tl.minimum(first + S.block_n, sizes.k_len) - 1
    lo = 0
    hi = sizes.q_len
    if S.has_right:
        lo = tl.maximum(lo, first - sizes.shift - sizes.right)
    if S.has_left:
        hi = tl.minimum(hi, last - sizes.shift + sizes.left + 1)
    if S.segments:
        lo = tl.maximum(lo, tl.load(hull + first, mask=first < sizes.k_len, other=0))
        hi = tl.minimum(hi, tl.load(hull + sizes.k_len + last))
    hi = tl.where(first < sizes.k_end, tl.maximum(hi, 0), 0)
    return align_down(tl.minimum(lo, hi), S.block_m), hi


@triton.jit
def ordered_spans(cols, at, hull, mask, batch, sizes, S: tl.constexpr):
    """The spans of dK and dV, widened to the limits."""
    lo, hi = limits(cols.first, hull, sizes, S)
    full_lo = lo
    full_hi = lo
    if has_full(S):
        spans = query_spans(cols, at, mask, batch, sizes, S)
        full_lo = tl.maximum(spans.full_lo, lo)
        full_hi = tl.maximum(tl.minimum(spans.full_hi, align_up(hi, S.block_m)), full_lo)
    return Spans(lo, full_lo, full_lo, full_hi, full_hi, hi)  # no part is far


@triton.constexpr_function
def ahead_of_time(S):
    """Whether a round loads the queries of the next one, where registers are left for them.

    The compiler does not do it: it pipelines no loop with a barrier. (Without the barrier it does, and moves the sum in
    memory before the wait for its turn, for it takes them as independent: seen with Triton 3.7.1.)
    """
    return not (S.segments or S.order or S.bias or S.dropout or S.softcap)


@triton.jit
def wait_beyond(progress, query):
    """What the counter says, once it says more than `query`."""
    seen = tl.atomic_add(progress, 0, sem="acquire")
    while seen <= query:
        seen = tl.atomic_add(progress, 0, sem="acquire")
    return seen


@triton.jit
def tell(progress, query):
    """All that this program wrote before it has added to the queries below `query`."""
    tl.debug_barrier()  # of all its threads, not only of the one that tells
    tl.atomic_xchg(progress, query, sem="release")


@triton.jit
def _walk_queries(
    dk, dv, q, dout, ahead, k, v, start, stop, cols, q_head, dout_head, dq_head, rest_head, progress, before,
    statistics, offset, program, bias, mask, scaling, dropout, sizes, S: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add to dk and dv, and to dQ in memory, what the query tiles of [start, stop) give.

    Tiles stand as [keys, queries]. q, dout: of the first tile, and then of the one after the last (`ahead_of_time`).
    ahead: queries below it may be added to; progress, before: the counters of this program and of the one before it.
    """
    row = lanes(S.block_m, S.wide)
    dim = lanes(S.block_d, S.wide)
    at = tl.arange(0, S.block_m)
    within = at[:, None] * S.block_d + tl.arange(0, S.block_d)[None, :]
    for place in range(start, stop, S.block_m):
        first = tl.cast(place, tl.int32)
        if ahead_of_time(S):
            now_q = q
            now_dout = dout
            next_q = load_rows(q_head, place + S.block_m, row, dim, sizes.q_len, S, True)
            next_dout = load_rows(dout_head, place + S.block_m, row, dim, sizes.q_len, S, True)
        else:
            now_q = load_rows(q_head, place, row, dim, sizes.q_len, S, True)
            now_dout = load_rows(dout_head, place, row, dim, sizes.q_len, S, True)
        rows = queries(first, mask, program.batch, sizes, S, S.block_m, 1, MASKED)
        lse, delta = load_statistics(statistics, offset, first, sizes.q_len, S, S.block_m)
        products = tl.dot(k, tl.trans(now_q), input_precision=S.precision)
        dp = tl.dot(v, tl.trans(now_dout), input_precision=S.precision)
        seen = True
        if MASKED:
            seen = visible(rows, cols, sizes, S)
        keep = True
        if S.dropout:
            keep = tl.trans(kept(program, dropout, first, cols.first, S.block_m, S.block_n))
        dropped, dbiased, dscaled = score_gradient(
            products, dp, lse[None, :], delta[None, :], keep, seen, rows, cols, program, bias, scaling, dropout,
            sizes, S, MASKED,
        )  # fmt: skip
        dv = tl.dot(dropped.to(now_dout.dtype), now_dout, dv, input_precision=S.precision)
        low = dscaled.to(now_q.dtype)
        dk = tl.dot(low, now_q, dk, input_precision=S.precision)
        dq = tl.dot(tl.trans(low), k, input_precision=S.precision)
        tell(progress, first)  # of the round before, whose stores have had a round's time to arrive
        if first >= ahead:
            ahead = wait_beyond(before, first)
        tl.atomic_add(dq_head + place * S.block_d + within, dq, sem="relaxed")
        if S.sink:
            # Absent keys, 0 in products, have weights where no mask takes them away.
            there = tl.where(cols.at < sizes.k_end, dbiased, 0.0)
            tl.atomic_add(rest_head + place + at, tl.sum(there, 0), sem="relaxed")
        if ahead_of_time(S):
            q = next_q
            dout = next_dout
    return dk, dv, q, dout, ahead


@triton.jit(do_not_specialize=(*UNSPECIALISED, "batch_size"))
def attention_ordered(
    q, k, v, dout, dk, dv, dq_ptr, rest_ptr, counters, hull, statistics, bias, mask, dropout, scaling, batch_size,
    heads, q_len, k_len, left, right, S: tl.constexpr,
):  # fmt: skip
    """Grid: batch * kv heads * tiles of keys. Sums over the query heads of its group in their order.

    dq_ptr: float32 [B, H, Sq to whole tiles, block_d] of 0, unscaled dQ to be; rest_ptr, with a sink: [B, H, the same]
    of 0, the row sums of dS to be. counters: int32 of 0, a ticket and [B, H, tiles of keys]. hull: int32 [B, 2, Sk] of
    `segments.hull`.
    """
    tiles = tl.cdiv(k_len, S.block_n)
    kv_heads = heads // S.groups
    turn = tl.atomic_add(counters, 1, sem="relaxed")
    tile, number = numbered(turn, tiles, batch_size * kv_heads)
    col0 = tile * S.block_n
    batch = (number // kv_heads).to(tl.int64)
    kv_head = (number % kv_heads).to(tl.int64)
    sizes = sizes_of(mask, batch, q_len, k_len, left, right, S)
    cols = keys(col0, mask, batch, sizes, S, S.block_n, 0, True)
    at = col0 + tl.arange(0, S.block_n)
    col = lanes(S.block_n, S.wide)
    row = lanes(S.block_m, S.wide)
    dim = lanes(S.block_d, S.wide)
    k_tile = load_rows(of_head(k, batch, kv_head), col0, col, dim, k_len, S, True)
    v_tile = load_rows(of_head(v, batch, kv_head), col0, col, dim, k_len, S, True)
    if S.segments:
        hull += batch * mask.segment_rows * 2 * k_len
    spans = ordered_spans(cols, at, hull, mask, batch, sizes, S)
    before_lo, before_hi = limits(col0 + S.block_n, hull, sizes, S)

    dk_tile = tl.full([S.block_n, S.block_d], 0.0, dtype=tl.float32)
    dv_tile = tl.full([S.block_n, S.block_d], 0.0, dtype=tl.float32)
    for member in range(S.groups):
        head = kv_head * S.groups + member
        program = program_of(batch, head, heads, bias, dropout, S)
        q_head = of_head(q, batch, head)
        dout_head = of_head(dout, batch, head)
        whole = batch * heads + head
        padded = align_up(q_len, S.block_m)
        progress = counters + 1 + whole * tiles + tile
        ahead = tl.where(before_lo < before_hi, before_lo, DONE)
        q_tile = 0
        dout_tile = 0
        if ahead_of_time(S):
            q_tile = load_rows(q_head, spans.lo, row, dim, q_len, S, True)
            dout_tile = load_rows(dout_head, spans.lo, row, dim, q_len, S, True)
        for part in tl.static_range(PARTS):
            if walked(part, S, S.has_right, S.has_left, S.k_lens, False):
                start, stop = span(spans, part, False)
                dk_tile, dv_tile, q_tile, dout_tile, ahead = _walk_queries(
                    dk_tile, dv_tile, q_tile, dout_tile, ahead, k_tile, v_tile, start, stop, cols, q_head, dout_head,
                    dq_ptr + whole * padded * S.block_d, rest_ptr + whole * padded if S.sink else rest_ptr, progress,
                    progress + 1, statistics, whole * q_len, program, bias, mask, scaling, dropout, sizes, S,
                    is_masked(part),
                )  # fmt: skip
        tell(progress, DONE)
    store_rows(of_head(dk, batch, kv_head), dk_tile * scaling.scale, col0, col, dim, k_len, S)
    store_rows(of_head(dv, batch, kv_head), dv_tile, col0, col, dim, k_len, S)
