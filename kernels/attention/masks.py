"""The specification's visibility and bias as plain tensors, for the backends that need them, and for the oracle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.attention.spec import Alibi, AttentionSpec, Bias, Dense, T5Bias


def relative_positions(q_len: int, k_len: int, device: torch.device, shift: int | None = None) -> Tensor:
    """int64 [Sq, Sk]: key position minus query position; shift: of `AttentionSpec`, default bottom-right aligned."""
    rows = torch.arange(q_len, device=device).unsqueeze(1) + (k_len - q_len if shift is None else shift)
    return torch.arange(k_len, device=device).unsqueeze(0) - rows


def t5_buckets(relative: Tensor, bidirectional: bool, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket number of each relative position (key minus query); Raffel et al., section 2.1.

    The first half of a side's buckets holds one distance each; the rest covers up to `max_distance` logarithmically.
    """
    offset = torch.zeros_like(relative)
    if bidirectional:
        num_buckets //= 2
        offset = (relative > 0).to(relative.dtype) * num_buckets
        distance = relative.abs()
    else:
        distance = (-relative).clamp(min=0)
    exact = num_buckets // 2
    ratio = torch.log(distance.clamp(min=1).to(torch.float32) / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (num_buckets - exact)).to(relative.dtype)).clamp(max=num_buckets - 1)
    return offset + torch.where(distance < exact, distance, far)


def visible_mask(spec: AttentionSpec, q_len: int, k_len: int, device: torch.device) -> Tensor | None:
    """bool, broadcastable to [B, H, Sq, Sk]: True where the query sees the key. None where all is visible."""
    visible: Tensor | None = None

    def also(condition: Tensor) -> None:
        nonlocal visible
        visible = condition if visible is None else visible & condition

    if spec.left is not None or spec.right is not None:
        relative = relative_positions(q_len, k_len, device, spec.shift(q_len, k_len))
        if spec.right is not None:
            also((relative <= spec.right)[None, None])
        if spec.left is not None:
            also((relative >= -spec.left)[None, None])
    if spec.kv_lens is not None:
        also((torch.arange(k_len, device=device) < spec.kv_lens.unsqueeze(1))[:, None, None, :])
    if spec.q_segments is not None and spec.k_segments is not None:
        q_segments, k_segments = spec.q_segments[:, None, :, None], spec.k_segments[:, None, None, :]
        also((q_segments == k_segments) & (q_segments >= 0))
    if spec.q_order is not None and spec.k_order is not None:
        q_order, k_order = spec.q_order[:, None, :, None], spec.k_order[:, None, None, :]
        also(k_order < q_order if spec.strict else k_order <= q_order)
    return visible


def bias_tensor(
    bias: Bias | None,
    q_len: int,
    k_len: int,
    dtype: torch.dtype,
    device: torch.device,
    shift: int | None = None,
) -> Tensor | None:
    """The additive bias in `dtype`, broadcastable to [B, H, Sq, Sk], differentiable in its table or tensor."""
    if bias is None:
        return None
    if isinstance(bias, Dense):
        return bias.tensor.to(dtype)
    relative = relative_positions(q_len, k_len, device, shift)
    if isinstance(bias, Alibi):
        slopes = bias.slopes.to(dtype).reshape(-1, bias.slopes.shape[-1], 1, 1)
        return -slopes * relative.abs().to(dtype)
    assert isinstance(bias, T5Bias)
    buckets = t5_buckets(relative, bias.bidirectional, bias.num_buckets, bias.max_distance)
    return torch.nn.functional.embedding(buckets, bias.table.to(dtype)).permute(2, 0, 1).unsqueeze(0)


def hide(bias: Tensor, visible: Tensor | None) -> Tensor:
    """The bias with -inf where nothing may be seen."""
    return bias if visible is None else bias.masked_fill(~visible, -math.inf)


@dataclass(frozen=True)
class PreparedMask:
    """What does not change from layer to layer, built once per forward pass by `prepare_mask`.

    visible: bool mask, for backends that need one and where something is hidden beyond plain causality.
    additive: the bias with -inf at what is hidden, where `spec.bias` is set.
    reaches: how far segments reach, by which the Triton kernels skip the tiles of other documents.
    values: the buckets of a `T5Bias` and its table's values there, as the Triton kernels read them.
    """

    spec: AttentionSpec
    q_len: int
    k_len: int
    device: torch.device
    backend: str
    visible: Tensor | None
    additive: Tensor | None
    reaches: tuple[Tensor, Tensor] | None = None
    values: tuple[Tensor, Tensor] | None = None
