"""Attention as the specification says it, line by line. Slow, readable, the oracle of every other backend."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.attention.dropout import keep_mask
from kernels.attention.masks import bias_tensor, visible_mask
from kernels.attention.spec import AttentionSpec


def reference_attention(
    q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, compute_dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """q [B, Sq, H, D], k and v [B, Sk, Hkv, D] -> out [B, Sq, H, D] in q's dtype, lse [B, H, Sq] in float32.

    Arithmetic is in `compute_dtype`, by default float32 or, for float64 inputs, float64. Holds O(Sq Sk) memory.
    """
    batch, q_len, heads, _ = q.shape
    k_len, groups = k.shape[1], heads // k.shape[2]
    compute = compute_dtype or torch.promote_types(q.dtype, torch.float32)
    queries = q.to(compute).transpose(1, 2)
    keys = k.to(compute).transpose(1, 2).repeat_interleave(groups, dim=1)
    values = v.to(compute).transpose(1, 2).repeat_interleave(groups, dim=1)

    scores = queries @ keys.transpose(-1, -2) * spec.scale
    if spec.softcap > 0.0:
        scores = spec.softcap * torch.tanh(scores / spec.softcap)
    bias = bias_tensor(spec.bias, q_len, k_len, compute, q.device, spec.shift(q_len, k_len))
    if bias is not None:
        scores = scores + bias
    visible = visible_mask(spec, q_len, k_len, q.device)
    if visible is not None:
        scores = scores.masked_fill(~visible, -math.inf)

    # A row that sees nothing has no finite score: its maximum is taken as 0 and its sum as 1, so that the output and
    # every gradient are 0 and never NaN.
    sink = None if spec.sink is None else spec.sink.to(compute).view(1, heads, 1, 1)
    peak = scores.detach().amax(dim=-1, keepdim=True) if k_len else scores.new_full((batch, heads, q_len, 1), -math.inf)
    if sink is not None:
        peak = torch.maximum(peak, sink.detach())
    peak = torch.where(torch.isinf(peak), torch.zeros_like(peak), peak)
    weights = torch.exp(scores - peak)
    total = weights.sum(dim=-1, keepdim=True)
    if sink is not None:
        total = total + torch.exp(sink - peak)
    empty = total == 0
    total = torch.where(empty, torch.ones_like(total), total)
    lse = torch.where(empty, torch.full_like(total, -math.inf), torch.log(total) + peak).squeeze(-1)

    probabilities = weights / total
    if spec.dropout_p > 0.0:
        assert spec.seed is not None
        places = spec.places or (0, 0)
        keep = keep_mask(spec.seed, spec.dropout_p, batch, heads, q_len, k_len, q.device, spec.dropout_rows, places)
        probabilities = probabilities * keep / (1.0 - spec.dropout_p)
    out = (probabilities @ values).transpose(1, 2).to(q.dtype)
    return out, lse.to(torch.float32) if lse.dtype != torch.float64 else lse
