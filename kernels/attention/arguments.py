"""From the arguments of a call to the specification: every check, and the one normal form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.attention.spec import Alibi, AttentionSpec, Bias, Dense, T5Bias
from kernels.checks import check_flag, check_float, check_integers, check_number, check_whole
from kernels.errors import refuse, shape


def build_spec(
    *,
    q_len: int,
    k_len: int,
    batch: int | None,
    heads: int | None,
    device: torch.device,
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
    dropout_rows: Tensor | None = None,
    scale: float = 1.0,
    return_lse: bool = False,
    held: AttentionSpec | None = None,
    places: object = None,
    function: str = "attention",
) -> AttentionSpec:
    """`batch` and `heads` are None where they are not known yet. held: of a prepared mask, which hides what it hid when
    it was checked, and whose bias counts where none is given here. Raises KernelInputError."""
    for name, flag in (("causal", causal), ("strict", strict), ("return_lse", return_lse)):
        check_flag(function, name, flag)
    left, right = _window_bounds(causal, window, function)
    if segments is not None and cu_seqlens is not None:
        raise refuse(function, "cu_seqlens", "given together with segments", "one of the two")
    q_segments = k_segments = q_order = k_order = None
    if segments is not None:
        q_segments, k_segments = _index_pair(segments, "segments", q_len, k_len, batch, device, function)
    if cu_seqlens is not None:
        if batch not in (None, 1):
            raise refuse(function, "cu_seqlens", f"given with batch {batch}", "packed documents in one row, batch 1")
        if isinstance(cu_seqlens, (tuple, list)) and (left is not None or right is not None):
            wanted = "one tensor (queries and keys of equal length)"
            raise refuse(function, "cu_seqlens", "a pair with causal or window", wanted)
        q_segments, k_segments = _segments_of_offsets(cu_seqlens, q_len, k_len, device, function)
    if order is not None:
        q_order, k_order = _index_pair(order, "order", q_len, k_len, batch, device, function)
    elif strict:
        raise refuse(function, "strict", "True without order", "an order that it sharpens from <= to <")
    if kv_lens is not None:
        kv_lens = _key_lengths(kv_lens, batch, device, function)
    check_bias(bias, q_len, k_len, batch, heads, device, function)
    softcap = check_number(function, "softcap", softcap, "0 (off) or a positive number", low=0.0)
    scale = check_number(function, "scale", scale, "a finite number")
    dropout_p = check_number(function, "dropout_p", dropout_p, "a probability in [0, 1)", low=0.0, below=1.0)
    if dropout_p > 0.0 and seed is None:
        raise refuse(function, "seed", "None", f"an integer, because dropout_p is {dropout_p}")
    if seed is not None:
        _check_seed(seed, function)
    if dropout_rows is not None:
        dropout_rows = _dropout_rows(dropout_rows, batch, device, function)
    if sink is not None:
        check_float(function, "sink", sink, device)
        if sink.dim() != 1 or (heads is not None and sink.shape[0] != heads):
            raise refuse(function, "sink", f"of shape {shape(sink)}", f"[{heads or 'H'}], one logit a head")
    if held is not None:  # here, and not in a copy of what is made below, which would take as long again
        left, right, kv_lens, strict = held.left, held.right, held.kv_lens, held.strict
        q_segments, k_segments, q_order, k_order = held.q_segments, held.k_segments, held.q_order, held.k_order
        bias = held.bias if bias is None else bias
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
        softcap=softcap,
        sink=sink,
        dropout_p=dropout_p,
        seed=seed if dropout_p > 0.0 else None,
        dropout_rows=dropout_rows if dropout_p > 0.0 else None,
        scale=scale,
        return_lse=return_lse,
        places=_places(places, function),
    )


def check_bias(
    bias: object, q_len: int, k_len: int, batch: int | None, heads: int | None, device: torch.device, function: str
) -> None:
    """That it is a bias, and of these sizes."""
    if isinstance(bias, Alibi):
        _check_alibi(bias, batch, heads, device, function)
    elif isinstance(bias, T5Bias):
        _check_t5(bias, heads, device, function)
    elif isinstance(bias, Dense):
        full = (batch, heads, q_len, k_len)
        given = check_float(function, "bias.tensor", bias.tensor, device).shape
        if len(given) != 4 or any(n != 1 and m is not None and n != m for n, m in zip(given, full, strict=True)):
            wanted = "[B, H, Sq, Sk] = " + str([m if m is not None else "any" for m in full])
            raise refuse(function, "bias", f"Dense of shape {shape(bias.tensor)}", f"broadcastable to {wanted}")
    elif bias is not None:
        wanted = "None, Alibi(slopes), T5Bias(table, ...) or Dense(tensor)"
        raise refuse(function, "bias", type(bias).__name__, wanted)


def _check_alibi(bias: Alibi, batch: int | None, heads: int | None, device: torch.device, function: str) -> None:
    slopes = check_float(function, "bias.slopes", bias.slopes, device)
    fits = slopes.dim() in (1, 2) and (heads is None or slopes.shape[-1] == heads)
    if not fits or (slopes.dim() == 2 and batch is not None and slopes.shape[0] not in (1, batch)):
        wanted = f"slopes [{heads or 'H'}] or [{batch or 'B'}, {heads or 'H'}]"
        raise refuse(function, "bias", f"Alibi with slopes {shape(slopes)}", wanted)
    if slopes.requires_grad:
        raise refuse(function, "bias", "Alibi with slopes that require a gradient", "fixed slopes, or a Dense bias")


def _check_t5(bias: T5Bias, heads: int | None, device: torch.device, function: str) -> None:
    table = check_float(function, "bias.table", bias.table, device)
    check_flag(function, "bias.bidirectional", bias.bidirectional)
    buckets = check_whole(function, "bias.num_buckets", bias.num_buckets, "an integer")
    distance = check_whole(function, "bias.max_distance", bias.max_distance, "an integer")
    if table.dim() != 2 or table.shape[0] != buckets or (heads is not None and table.shape[1] != heads):
        wanted = f"[{buckets}, {heads or 'H'}] = [num_buckets, H]"
        raise refuse(function, "bias", f"T5Bias with a table {shape(table)}", wanted)
    one_side = buckets // 2 if bias.bidirectional else buckets
    if one_side < 2 or (bias.bidirectional and buckets % 2):
        raise refuse(function, "bias", f"T5Bias with num_buckets={buckets}", "an even number >= 4")
    if distance <= one_side // 2:
        raise refuse(function, "bias", f"T5Bias with max_distance={distance}", f"more than {one_side // 2}")


def _window_bounds(causal: bool, window: object, function: str) -> tuple[int | None, int | None]:
    """(left, right) bounds in tokens from `causal` and `window=(left, right)`, where None or -1 is no bound."""
    left: int | None = None
    right: int | None = None
    if window is not None:
        if not isinstance(window, (tuple, list)) or len(window) != 2:
            raise refuse(function, "window", repr(window), "a pair (left, right) of token counts, None for no bound")
        for side in window:
            if side is not None and (not isinstance(side, int) or isinstance(side, bool) or side < -1):
                raise refuse(function, "window", repr(window), "token counts >= 0, or None (or -1) for no bound")
        left, right = (None if side in (None, -1) else int(side) for side in window)
    if causal:
        right = 0 if right is None else min(right, 0)
    return left, right


def _index_pair(
    value: object, name: str, q_len: int, k_len: int, batch: int | None, device: torch.device, function: str
) -> tuple[Tensor, Tensor]:
    """int32 [B or 1, length] for queries and for keys, of as many rows: of one tensor (self-attention) or a pair."""
    pair: Sequence[object]
    if isinstance(value, Tensor):
        if q_len != k_len:
            given = f"one tensor for {q_len} queries and {k_len} keys"
            raise refuse(function, name, given, f"a pair (q_{name}, k_{name})")
        pair = (value, value)
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        pair = value
    else:
        wanted = f"an int tensor [B, S] or a pair (q_{name}, k_{name})"
        raise refuse(function, name, type(value).__name__, wanted)
    found = []
    for member, length, side in zip(pair, (q_len, k_len), ("q", "k"), strict=True):
        label = name if isinstance(value, Tensor) else f"{side}_{name}"
        tensor = check_integers(function, label, member, device)
        rows = tensor if tensor.dim() == 2 else tensor.unsqueeze(0)
        if rows.dim() != 2 or rows.shape[1] != length or (batch is not None and rows.shape[0] not in (1, batch)):
            wanted = f"[{'B' if batch is None else batch}, {length}] or [{length}]"
            raise refuse(function, label, f"of shape {shape(tensor)}", wanted)
        found.append(rows.to(torch.int32))
    queries, keys = found
    if queries.shape[0] == keys.shape[0]:
        return queries, keys
    if 1 not in (queries.shape[0], keys.shape[0]):
        given = f"a pair of {queries.shape[0]} and {keys.shape[0]} rows"
        raise refuse(function, name, given, "as many rows for queries as for keys, or one")
    count = max(queries.shape[0], keys.shape[0])
    return queries.expand(count, -1), keys.expand(count, -1)


def _segments_of_offsets(
    value: object, q_len: int, k_len: int, device: torch.device, function: str
) -> tuple[Tensor, Tensor]:
    """Document numbers of packed tokens, from their cumulative lengths [documents + 1]."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise refuse(function, "cu_seqlens", f"a sequence of {len(pair)}", "an int tensor or a pair of them")
    found = []
    for member, length in zip(pair, (q_len, k_len), strict=True):
        wanted = "an int tensor [documents + 1]"
        offsets = check_integers(function, "cu_seqlens", member, device, wanted)
        if offsets.dim() != 1 or len(offsets) < 2:
            raise refuse(function, "cu_seqlens", f"of shape {shape(offsets)}", wanted)
        _check_ascending(offsets, length, function)
        places = torch.arange(length, device=device, dtype=offsets.dtype)
        found.append(torch.bucketize(places, offsets[1:], right=True, out_int32=True).unsqueeze(0))
    return found[0], found[1]


def _check_ascending(offsets: Tensor, total: int, function: str) -> None:
    """Values are read on the CPU only; on a GPU the check is a device-side assertion, so that nothing waits for it."""
    if torch.compiler.is_compiling():
        return
    good = (offsets[0] == 0) & (offsets[-1] == total) & (offsets[1:] >= offsets[:-1]).all()
    if offsets.device.type == "cpu":
        if not bool(good):
            wanted = f"ascending offsets from 0 to the number of tokens ({total})"
            raise refuse(function, "cu_seqlens", str(offsets.tolist()[:16]), wanted)
    else:
        torch._assert_async(good, f"{function}: cu_seqlens does not ascend from 0 to {total}")


def _key_lengths(kv_lens: object, batch: int | None, device: torch.device, function: str) -> Tensor:
    wanted = f"an int tensor [{'B' if batch is None else batch}]"
    lengths = check_integers(function, "kv_lens", kv_lens, device, wanted)
    if lengths.dim() != 1 or (batch is not None and lengths.shape[0] not in (1, batch)):
        raise refuse(function, "kv_lens", f"of shape {shape(lengths)}", wanted)
    return lengths.to(torch.int32)


def _dropout_rows(rows: object, batch: int | None, device: torch.device, function: str) -> Tensor:
    wanted = f"an int tensor [{'B' if batch is None else batch}]"
    numbers = check_integers(function, "dropout_rows", rows, device, wanted)
    if numbers.dim() != 1 or (batch is not None and numbers.shape[0] != batch):
        raise refuse(function, "dropout_rows", f"of shape {shape(numbers)}", wanted)
    return numbers.to(torch.int64)


def _places(places: object, function: str) -> tuple[int, int] | None:
    if places is None:
        return None
    wanted = "a pair of positions, of the first query and of the first key"
    if not isinstance(places, (tuple, list)) or len(places) != 2:
        raise refuse(function, "places", repr(places), wanted)
    first_query, first_key = (check_whole(function, "places", one, wanted, low=0) for one in places)
    return first_query, first_key


def _check_seed(seed: object, function: str) -> None:
    wanted = "an integer of 64 bits, or an integer tensor of one element"
    if isinstance(seed, Tensor):
        if check_integers(function, "seed", seed, wanted=wanted).numel() != 1:
            raise refuse(function, "seed", f"of shape {shape(seed)}", wanted)
    elif check_whole(function, "seed", seed, wanted, low=-(2**63)) >= 2**63:
        raise refuse(function, "seed", repr(seed), wanted)
