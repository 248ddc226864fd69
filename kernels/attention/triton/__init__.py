"""The Triton backend. Importing it imports Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.attention.spec import Alibi, AttentionSpec, Dense, T5Bias
from kernels.attention.triton.buckets import bucket_values
from kernels.attention.triton.launches import NO_BOUND
from kernels.attention.triton.op import run_attention
from kernels.attention.triton.segments import reach
from kernels.errors import refuse


def triton_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    spec: AttentionSpec,
    reaches: tuple[Tensor, Tensor] | None = None,
    values: tuple[Tensor, Tensor] | None = None,
    ordered: bool = False,
) -> tuple[Tensor, Tensor]:
    """out [B, Sq, H, D] and lse float32 [B, H, Sq].

    reaches: of `segment_reaches`, values: of `bucket_values`, if the caller has them already. ordered: the backward
    pass in one walk, where there is a tile for it.
    """
    q_len, k_len, device, bias = q.shape[1], k.shape[1], q.device, spec.bias
    ahead = 0
    if spec.places is not None:
        if isinstance(bias, Alibi | T5Bias) or spec.dropout_p > 0.0:
            raise refuse("attention", "places", f"{spec.places} with alibi, t5 or dropout", "backend='reference'")
        ahead = k_len - q_len - spec.shift(q_len, k_len)  # kernels align at the bottom right: bounds move instead
    table = buckets = vector = None
    if isinstance(bias, Alibi):
        vector = bias.slopes.contiguous()
    elif isinstance(bias, T5Bias):
        table = bias.table
        buckets, vector = bucket_values(bias, device) if values is None else values
    if reaches is None:
        reaches = segment_reaches(spec)
    seed = spec.seed
    if isinstance(seed, int):
        seed = torch.full((1,), seed, dtype=torch.int64, device=device)
    rows = spec.dropout_rows
    if seed is not None and rows is None:
        rows = torch.arange(q.shape[0], device=device)
    out, lse = run_attention(
        q,
        k,
        v,
        vector,
        table,
        buckets,
        bias.tensor if isinstance(bias, Dense) else None,
        _rows(spec.q_segments),
        _rows(spec.k_segments),
        None if reaches is None else reaches[0],
        None if reaches is None else reaches[1],
        _rows(spec.kv_lens),
        _rows(spec.q_order),
        _rows(spec.k_order),
        spec.sink,
        None if seed is None else seed.to(device, torch.int64).reshape(1),
        rows,
        NO_BOUND if spec.left is None else spec.left + ahead,
        NO_BOUND if spec.right is None else spec.right - ahead,
        spec.strict,
        spec.softcap,
        spec.dropout_p,
        spec.scale,
        ordered,
    )
    return out, lse


def segment_reaches(spec: AttentionSpec) -> tuple[Tensor, Tensor] | None:
    """int32 [B, 3, Sq] and [B, 3, Sk]: which keys a query's segment, and which queries a key's segment, spans."""
    if spec.q_segments is None or spec.k_segments is None:
        return None
    return reach(spec.q_segments, spec.k_segments), reach(spec.k_segments, spec.q_segments)


def _rows(index: Tensor | None) -> Tensor | None:
    return None if index is None else index.contiguous()
