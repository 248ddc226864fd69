"""What attention means: one specification that every backend implements.

With `scores = q k^T * scale`, in this order:

1. `softcap > 0`: scores = softcap * tanh(scores / softcap)  (Gemma 2, arXiv 2408.00118, section 2)
2. `bias`: scores += bias                                    (ALiBi, a T5 bucket table, or a dense tensor)
3. visibility: scores = -inf where the query may not see the key
4. softmax over keys, with exp(sink) added to the denominator if there is a sink (StreamingLLM, arXiv 2309.17453)
5. dropout on the probabilities, then the product with v

Positions are aligned at the bottom right: query row i stands at key position i + Sk - Sq. Causality, window, ALiBi
and T5 bias are all functions of the relative position `j - (i + Sk - Sq)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.errors import refuse, shape

MAX_HEAD_DIM = 256


@dataclass(frozen=True)
class Alibi:
    """Attention with linear biases (Press et al., arXiv 2108.12409): `-slope * |relative position|`.

    slopes: float [H] or [B, H]. They carry no gradient.
    """

    slopes: Tensor


@dataclass(frozen=True)
class T5Bias:
    """Relative position buckets (Raffel et al., arXiv 1910.10683, section 2.1), with gradient to the table.

    table: [num_buckets, H]. Half of the buckets count single positions, the other half grows logarithmically up to
    `max_distance`; with `bidirectional`, half of all buckets is for keys after the query.
    """

    table: Tensor
    bidirectional: bool = True
    num_buckets: int = 32
    max_distance: int = 128


@dataclass(frozen=True)
class Dense:
    """An additive bias, with gradient. tensor: 4-D, broadcastable to [B, H, Sq, Sk]."""

    tensor: Tensor


Bias = Alibi | T5Bias | Dense


@dataclass(frozen=True)
class AttentionSpec:
    """The normalised arguments of one attention call. All index tensors are int32 of shape [B or 1, length].

    left, right: keys visible before and after the query's position, None for no bound (`causal` is right = 0).
    q_segments, k_segments: a query sees a key of the same segment; a negative segment sees and is seen by nothing.
    kv_lens: [B or 1], keys at and after it are invisible.
    q_order, k_order: rank in a factorization order; a key is visible if its rank is <= (`strict`: <) the query's.
    """

    left: int | None = None
    right: int | None = None
    bias: Bias | None = None
    q_segments: Tensor | None = None
    k_segments: Tensor | None = None
    kv_lens: Tensor | None = None
    q_order: Tensor | None = None
    k_order: Tensor | None = None
    strict: bool = False
    softcap: float = 0.0
    sink: Tensor | None = None
    dropout_p: float = 0.0
    seed: int | Tensor | None = None
    scale: float = 1.0
    return_lse: bool = False

    @property
    def plain(self) -> bool:
        """Nothing hides a key but, perhaps, causality."""
        unbounded = self.left is None and (self.right is None or self.right == 0)
        return unbounded and self.q_segments is None and self.kv_lens is None and self.q_order is None


def window_bounds(causal: bool, window: object, function: str) -> tuple[int | None, int | None]:
    """(left, right) bounds in tokens from `causal` and `window=(left, right)`, where None or -1 is no bound."""
    left: int | None = None
    right: int | None = None
    if window is not None:
        if not isinstance(window, (tuple, list)) or len(window) != 2:
            raise refuse(
                function,
                "window",
                repr(window),
                "a pair (left, right) of token counts, None for no bound",
            )
        for side in window:
            if side is not None and (not isinstance(side, int) or isinstance(side, bool) or side < -1):
                raise refuse(
                    function,
                    "window",
                    repr(window),
                    "token counts >= 0, or None (or -1) for no bound",
                )
        left = None if window[0] in (None, -1) else int(window[0])
        right = None if window[1] in (None, -1) else int(window[1])
    if causal:
        right = 0 if right is None else min(right, 0)
    return left, right


def _index_pair(
    value: object, name: str, q_len: int, k_len: int, batch: int | None, function: str
) -> tuple[Tensor, Tensor]:
    """A per-token index for queries and for keys, from one tensor (self-attention) or a pair."""
    if isinstance(value, Tensor):
        if q_len != k_len:
            raise refuse(
                function,
                name,
                f"one tensor for {q_len} queries and {k_len} keys",
                f"a pair (q_{name}, k_{name})",
            )
        pair: Sequence[object] = (value, value)
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        pair = value
    else:
        raise refuse(
            function,
            name,
            type(value).__name__,
            f"an int tensor [B, S] or a pair (q_{name}, k_{name})",
        )
    found = []
    for tensor, length, side in zip(pair, (q_len, k_len), ("q", "k"), strict=True):
        label = name if isinstance(value, Tensor) else f"{side}_{name}"
        if not isinstance(tensor, Tensor) or tensor.is_floating_point() or tensor.dtype == torch.bool:
            got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise refuse(function, label, got, "a tensor of integers")
        rows = tensor if tensor.dim() == 2 else tensor.unsqueeze(0)
        if rows.dim() != 2 or rows.shape[1] != length or (batch is not None and rows.shape[0] not in (1, batch)):
            wanted = f"[{'B' if batch is None else batch}, {length}] or [{length}]"
            raise refuse(function, label, f"of shape {shape(tensor)}", wanted)
        found.append(rows.to(torch.int32))
    return found[0], found[1]


def _check_ascending(offsets: Tensor, total: int, label: str, function: str) -> None:
    """Values are read on the CPU only; on a GPU the check is a device-side assertion, so that nothing waits for it."""
    if torch.compiler.is_compiling():
        return
    good = (offsets[0] == 0) & (offsets[-1] == total) & (offsets[1:] >= offsets[:-1]).all()
    if offsets.device.type == "cpu":
        if not bool(good):
            wanted = f"ascending offsets from 0 to the number of tokens ({total})"
            raise refuse(function, label, str(offsets.tolist()[:16]), wanted)
    else:
        torch._assert_async(good, f"{function}: {label} does not ascend from 0 to {total}")


def _segments_of_offsets(value: object, q_len: int, k_len: int, function: str) -> tuple[Tensor, Tensor]:
    """Document numbers of packed tokens, from their cumulative lengths [documents + 1]."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise refuse(
            function,
            "cu_seqlens",
            f"a sequence of {len(pair)}",
            "an int tensor or a pair of them",
        )
    found = []
    for offsets, length in zip(pair, (q_len, k_len), strict=True):
        if not isinstance(offsets, Tensor) or offsets.dim() != 1 or offsets.is_floating_point() or len(offsets) < 2:
            got = f"{offsets.dtype} {shape(offsets)}" if isinstance(offsets, Tensor) else type(offsets).__name__
            raise refuse(function, "cu_seqlens", got, "an int tensor [documents + 1]")
        _check_ascending(offsets, length, "cu_seqlens", function)
        places = torch.arange(length, device=offsets.device, dtype=offsets.dtype)
        found.append(torch.bucketize(places, offsets[1:], right=True, out_int32=True).unsqueeze(0))
    return found[0], found[1]


def _check_bias(
    bias: object,
    q_len: int,
    k_len: int,
    batch: int | None,
    heads: int | None,
    function: str,
) -> None:
    if bias is None:
        return
    if isinstance(bias, Alibi):
        slopes = bias.slopes
        if slopes.dim() not in (1, 2) or (heads is not None and slopes.shape[-1] != heads):
            raise refuse(
                function,
                "bias",
                f"Alibi with slopes {shape(slopes)}",
                f"slopes [{heads or 'H'}] or [B, H]",
            )
        if slopes.dim() == 2 and batch is not None and slopes.shape[0] not in (1, batch):
            raise refuse(
                function,
                "bias",
                f"Alibi with slopes {shape(slopes)}",
                f"slopes [{batch}, {heads or 'H'}]",
            )
        if slopes.requires_grad:
            raise refuse(
                function,
                "bias",
                "Alibi with slopes that require a gradient",
                "fixed slopes, or a Dense bias",
            )
    elif isinstance(bias, T5Bias):
        table = bias.table
        wanted_shape = [
            bias.num_buckets,
            heads if heads is not None else table.shape[-1],
        ]
        if table.dim() != 2 or list(table.shape) != wanted_shape:
            raise refuse(
                function,
                "bias",
                f"T5Bias with a table {shape(table)}",
                f"{wanted_shape} = [num_buckets, H]",
            )
        one_side = bias.num_buckets // 2 if bias.bidirectional else bias.num_buckets
        if one_side < 2 or (bias.bidirectional and bias.num_buckets % 2):
            raise refuse(
                function,
                "bias",
                f"T5Bias with num_buckets={bias.num_buckets}",
                "an even number >= 4",
            )
        if bias.max_distance <= one_side // 2:
            raise refuse(
                function,
                "bias",
                f"T5Bias with max_distance={bias.max_distance}",
                f"more than {one_side // 2}",
            )
    elif isinstance(bias, Dense):
        full = (batch, heads, q_len, k_len)
        fits = bias.tensor.dim() == 4 and all(
            n == 1 or m is None or n == m for n, m in zip(bias.tensor.shape, full, strict=True)
        )
        if not fits:
            wanted = "[B, H, Sq, Sk] = " + str([m if m is not None else "any" for m in full])
            raise refuse(
                function,
                "bias",
                f"Dense of shape {shape(bias.tensor)}",
                f"broadcastable to {wanted}",
            )
    else:
        raise refuse(
            function,
            "bias",
            type(bias).__name__,
            "None, Alibi(slopes), T5Bias(table, ...) or Dense(tensor)",
        )


def build_spec(
    *,
    q_len: int,
    k_len: int,
    batch: int | None,
    heads: int | None,
    causal: bool,
    window: object,
    bias: Bias | None,
    segments: object,
    cu_seqlens: object,
    kv_lens: Tensor | None,
    order: object,
    strict: bool,
    softcap: float = 0.0,
    sink: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    scale: float = 1.0,
    return_lse: bool = False,
    function: str = "attention",
) -> AttentionSpec:
    """Check every argument and bring it to the one normal form. `batch` and `heads` are None where not yet known."""
    left, right = window_bounds(causal, window, function)
    q_segments = k_segments = q_order = k_order = None
    if segments is not None and cu_seqlens is not None:
        raise refuse(function, "cu_seqlens", "given together with segments", "one of the two")
    if segments is not None:
        q_segments, k_segments = _index_pair(segments, "segments", q_len, k_len, batch, function)
    if cu_seqlens is not None:
        if batch not in (None, 1):
            raise refuse(
                function,
                "cu_seqlens",
                f"given with batch {batch}",
                "packed documents in one row, batch 1",
            )
        if isinstance(cu_seqlens, (tuple, list)) and (left is not None or right is not None):
            raise refuse(
                function,
                "cu_seqlens",
                "a pair with causal or window",
                "one tensor (queries and keys of equal length)",
            )
        q_segments, k_segments = _segments_of_offsets(cu_seqlens, q_len, k_len, function)
    if kv_lens is not None:
        integers = isinstance(kv_lens, Tensor) and not kv_lens.is_floating_point() and kv_lens.dtype != torch.bool
        if not integers or kv_lens.dim() != 1 or (batch is not None and kv_lens.shape[0] not in (1, batch)):
            got = f"{kv_lens.dtype} {shape(kv_lens)}" if isinstance(kv_lens, Tensor) else type(kv_lens).__name__
            raise refuse(
                function,
                "kv_lens",
                got,
                f"an int tensor [{'B' if batch is None else batch}]",
            )
        kv_lens = kv_lens.to(torch.int32)
    if order is not None:
        q_order, k_order = _index_pair(order, "order", q_len, k_len, batch, function)
    elif strict:
        raise refuse(
            function,
            "strict",
            "True without order",
            "an order that it sharpens from <= to <",
        )
    _check_bias(bias, q_len, k_len, batch, heads, function)
    if not (isinstance(softcap, (int, float)) and math.isfinite(softcap) and softcap >= 0):
        raise refuse(function, "softcap", softcap, "0 (off) or a positive number")
    if not 0.0 <= dropout_p < 1.0:
        raise refuse(function, "dropout_p", dropout_p, "a probability in [0, 1)")
    if dropout_p > 0.0 and seed is None:
        raise refuse(function, "seed", "None", f"an integer, because dropout_p is {dropout_p}")
    if seed is not None:
        whole = isinstance(seed, Tensor) and seed.numel() == 1 and not seed.is_floating_point()
        if not whole and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise refuse(
                function,
                "seed",
                repr(seed),
                "an integer or an integer tensor of one element",
            )
    if sink is not None and (sink.dim() != 1 or (heads is not None and sink.shape[0] != heads)):
        raise refuse(
            function,
            "sink",
            f"of shape {shape(sink)}",
            f"[{heads or 'H'}], one logit a head",
        )
    return AttentionSpec(
        left=left,
        right=right,
        bias=bias,
        q_segments=q_segments,
        k_segments=k_segments,
        kv_lens=kv_lens,
        q_order=q_order,
        k_order=k_order,
        strict=strict,
        softcap=float(softcap),
        sink=sink,
        dropout_p=float(dropout_p),
        seed=seed if dropout_p > 0.0 else None,
        scale=scale,
        return_lse=return_lse,
    )
