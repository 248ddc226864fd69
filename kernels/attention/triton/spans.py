"""Which tiles a program walks over, which of them need no mask, and in which a bucket table is one value."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.triton.operands import Spans
from kernels.attention.triton.tile import MARGIN, align_down, align_up


@triton.constexpr_function
def has_full(S):
    """Whether tiles are known in which everything is seen: ranks hide single pairs, segments do outside of runs."""
    return S.order == 0 and (S.runs or not S.segments)


@triton.constexpr_function
def has_far(S):
    """Whether tiles are known whose bias of a bucket table is one value: full ones, far from the diagonal."""
    return S.bias == 2 and S.far_loops and has_full(S)


# The parts of a walk, in the order of the other axis: masked tiles; full ones far from the diagonal, near to it (all of
# them where no tile is far), and far again; masked ones.
PARTS = tl.constexpr(5)


@triton.constexpr_function
def walked(part, S, has_before, has_after, own_lens, ragged):
    """Whether this part of a walk can hold a tile."""
    if not has_full(S):
        return part == 4
    before, after = has_before or S.segments or own_lens, has_after or S.segments or ragged
    return (before, has_far(S), True, has_far(S), after)[part]


@triton.constexpr_function
def is_masked(part):
    return part in (0, 4)


@triton.constexpr_function
def is_far(part):
    return part in (1, 3)


@triton.constexpr_function
def of_part(S, part):
    """The switches of its tiles: far ones have no bias but one value, `far_bias`, where it costs an operation a row."""
    return S._replace(bias=0, even=True) if is_far(part) else S


@triton.jit
def far_value(program, AFTER, S: tl.constexpr):
    """The bias, in log2 units, of keys far before the query or (AFTER) far after it."""
    return tl.load(program.bias + tl.where(AFTER, 2 * (S.far + MARGIN) - 1, 0))


@triton.jit
def far_bias(program, PART: tl.constexpr, OVER_KEYS: tl.constexpr, S: tl.constexpr):
    """`far_value` of a far part, and 0 of others. OVER_KEYS: of a walk over keys, of which the first lie before the
    query; the first queries of one over queries have the key after them."""
    value = 0.0
    if is_far(PART):
        value = far_value(program, (PART == 1) != OVER_KEYS, S)
    return value


@triton.jit
def span(spans, PART: tl.constexpr, ENTERED: tl.constexpr):
    """[start, stop) of a part; starts are multiples of the tile. ENTERED: it holds a tile for certain.

    int64, because offsets are: LLVM would widen a counter of 32 bits by itself, and the block that it needs for that
    before a loop makes ptxas run the products of sm_90 one after the other (C7515). So does a branch around a kernel's
    only loop, which ENTERED takes away.
    """
    if PART == 0:
        start, stop = spans.lo, tl.minimum(spans.full_lo, spans.hi)
    elif PART == 1:
        start, stop = spans.full_lo, spans.near_lo
    elif PART == 2:
        start, stop = spans.near_lo, spans.near_hi
    elif PART == 3:
        start, stop = spans.near_hi, spans.full_hi
    else:
        start, stop = spans.full_hi, spans.hi
    start, stop = start.to(tl.int64), stop.to(tl.int64)
    if ENTERED:
        tl.assume(start < stop)
    return start, stop


@triton.jit
def reach_of(reaches, at, length):
    """(lo, hi, run) of tokens; what stands past the end is bounded by `at < length` where it is used."""
    inside = at < length
    lo = tl.load(reaches + at, mask=inside, other=0)
    hi = tl.load(reaches + length + at, mask=inside, other=0)
    run = tl.load(reaches + 2 * length + at, mask=inside, other=2147483647)
    return tl.min(tl.where(inside, lo, 2147483647)), tl.max(hi), tl.max(lo), tl.min(run)


@triton.jit
def spans_of(
    first, last, at, own_len, own_end, end, full_end, shift, before, after, reaches,
    HAS_BEFORE: tl.constexpr, HAS_AFTER: tl.constexpr, OWN_LENS: tl.constexpr, S: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The spans of the other axis for a tile of tokens first .. last, with numbers `at`.

    Token t sees (or is seen by) t + shift - before to t + shift + after of the other axis, below `end`, and those that
    `reaches`, at this batch row, tells. Full tiles end by full_end. From own_end on tokens see nothing (OWN_LENS).
    A tile is far where all its pairs are at least S.far apart.
    """
    lo = 0
    hi = end
    full_lo = 0
    full_hi = full_end
    if HAS_AFTER:
        hi = tl.minimum(hi, last + shift + after + 1)
        full_hi = tl.minimum(full_hi, first + shift + after + 1)
    if HAS_BEFORE:
        lo = tl.maximum(lo, first + shift - before)
        full_lo = tl.maximum(full_lo, last + shift - before)
    if S.segments:
        seen_lo, seen_hi, run_lo, run_hi = reach_of(reaches, at, own_len)
        lo = tl.maximum(lo, seen_lo)
        hi = tl.minimum(hi, seen_hi)
        full_lo = tl.maximum(full_lo, run_lo)
        full_hi = tl.minimum(full_hi, run_hi)
    if OWN_LENS:
        hi = tl.where(first < own_end, hi, 0)
        full_lo = tl.where(last < own_end, full_lo, hi)
    hi = tl.maximum(hi, 0)
    lo = align_down(tl.minimum(lo, hi), BLOCK)
    top = align_up(hi, BLOCK)
    full_lo = tl.minimum(align_up(tl.maximum(full_lo, lo), BLOCK), top)
    full_hi = tl.maximum(tl.minimum(align_down(tl.maximum(full_hi, 0), BLOCK), top), full_lo)
    if not has_full(S):
        full_lo = lo
        full_hi = lo
        hi = tl.maximum(hi, lo + 1)  # a tile in any case, which the mask empties where nothing is seen (`span`)
    near_lo = full_lo
    near_hi = full_hi
    if has_far(S):
        near_lo = align_down(tl.maximum(first + shift - S.far + 1, 0), BLOCK)
        near_hi = align_up(tl.maximum(last + shift + S.far, 0), BLOCK)
        near_lo = tl.minimum(tl.maximum(near_lo, full_lo), full_hi)
        near_hi = tl.minimum(tl.maximum(near_hi, full_lo), full_hi)
    return Spans(lo, full_lo, near_lo, near_hi, full_hi, hi)
