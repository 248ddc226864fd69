"""What the attention kernels are given, as tuples: operands with their strides, the mask's vectors, the switches.

Triton specialises every integer in a tuple by its value 1 and by divisibility by 16. So tuples hold what a
model fixes (strides); lengths and bounds, which vary from batch to batch, stay arguments of their own, and no kernel is
specialised for them.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Operand(NamedTuple):
    """A tensor [B, S, H, D], or a bias [B, H, Sq, Sk] as (ptr, batch, row, head, column): pointer and strides in
    elements.

    The bias by `Switches.bias`: slopes (batch, head), for each head a vector over the relative positions
    around 0 (kernels/attention/triton/buckets.py), or a matrix.
    """

    ptr: Any
    batch: Any
    row: Any
    head: Any
    dim: Any


class Mask(NamedTuple):
    """Index vectors, int32 and contiguous, or None. *_rows: 1 where each batch row has its own, 0 where one serves all.

    segments: the numbers; reaches: [B, 3, S] of kernels/attention/triton/segments.py, of the axis that a program holds.
    """

    q_segments: Any
    k_segments: Any
    reaches: Any
    segment_rows: Any
    k_lens: Any
    lens_rows: Any
    q_ranks: Any
    k_ranks: Any
    rank_rows: Any


class Dropout(NamedTuple):
    """seed: int64 [1]; rows: int64 [B]; threshold: int32 of the same bits as the uint32; scale: 1 / (1 - p)."""

    seed: Any
    rows: Any
    threshold: Any
    scale: Any


class Scaling(NamedTuple):
    """scale: of q k^T; factor: the same in the scores' unit (see tile.py); inner, outer: scale / softcap, and softcap
    in that unit."""

    scale: Any
    factor: Any
    inner: Any
    outer: Any


class Statistics(NamedTuple):
    """float32 [B, H, Sq]: lse (natural log), delta, and with a sink the row sums of dS, else None."""

    lse: Any
    delta: Any
    rest: Any


class Switches(NamedTuple):
    """What a kernel is compiled for; one constexpr argument. What is off leaves no trace in the code.

    bias: 0 none, 1 ALiBi slope, 2 a vector over the relative position, 3 a dense tensor.
    order: 0 none, 1 key rank <= query rank, 2 key rank < query rank.
    far: of bias 2, a multiple of 8: from this distance on, to either side, the bias is one value a head.
    even: inside a kernel, in place of bias 2: all scores of a tile have one value, which is added elsewhere.
    runs: skip the mask where segments are known to be equal (off only to compare).
    far_loops: far tiles of bias 2 have a loop of their own (as the tile says: kernels/configs.py).
    folded: the scale is positive and, where no bias is added, nothing but the scale is between products and softmax.
    descriptors: the forward kernel loads keys and values by TMA (tensor memory accelerator, sm_90 and above).
    specialized: with warps of their own, queries among them, and the mask on every tile.
    wide: offsets inside a tile need 64 bits. dk, dv: which of the two the key kernel forms.
    """

    head_dim: int
    block_d: int
    groups: int = 1
    has_left: bool = False
    has_right: bool = False
    bias: int = 0
    far: int = 0
    even: bool = False
    segments: bool = False
    k_lens: bool = False
    order: int = 0
    softcap: bool = False
    sink: bool = False
    dropout: bool = False
    precision: str = "ieee"
    folded: bool = False
    runs: bool = True
    far_loops: bool = False
    descriptors: bool = False
    specialized: bool = False
    wide: bool = False
    dk: bool = True
    dv: bool = True
    block_m: int = 64
    block_n: int = 64


class Sizes(NamedTuple):
    """Inside a kernel: lengths and bounds. shift = k_len - q_len; keys from k_end on do not exist."""

    q_len: Any
    k_len: Any
    shift: Any
    k_end: Any
    left: Any
    right: Any


class Program(NamedTuple):
    """Inside a kernel: which head of which batch row a program works on (int64), its bias (slope in the scores' unit,
    or pointer), and dropout's seed and number."""

    batch: Any
    head: Any
    bias: Any
    seed: Any
    number: Any


class Line(NamedTuple):
    """Inside a kernel: queries or keys along one axis of a tile, as vectors: their numbers, segments and ranks."""

    first: Any
    at: Any
    segment: Any
    rank: Any


class Spans(NamedTuple):
    """Inside a kernel: [lo, hi) may be seen, [full_lo, full_hi) is whole tiles in which everything is seen by all.

    Of the full tiles those outside of [near_lo, near_hi) have one value of the bias each.
    """

    lo: Any
    full_lo: Any
    near_lo: Any
    near_hi: Any
    full_hi: Any
    hi: Any
