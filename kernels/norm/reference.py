"""RMSNorm (Zhang and Sennrich, arXiv 1910.07467) and LayerNorm (Ba et al., arXiv 1607.06450), step by step."""

from __future__ import annotations

import torch
from torch import Tensor


def reference_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor | None, eps: float, center: bool,
    dtype: torch.dtype | None = None, compute_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(normalised, x + residual), both in the dtype of the sum, the first in `dtype` if given; statistics in float32
    (float64 for float64).

    center: subtract the mean (LayerNorm). The sum is rounded to its dtype before it is normalised, as it is what the
    next layer reads.
    """
    total = x if residual is None else x + residual
    compute = compute_dtype or torch.promote_types(total.dtype, torch.float32)
    wide = total.to(compute)
    if center:
        wide = wide - wide.mean(dim=-1, keepdim=True)
    normal = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    out = normal * weight.to(compute)
    if bias is not None:
        out = out + bias.to(compute)
    return out.to(dtype or total.dtype), total


def sum_dtype(x: Tensor, residual: Tensor | None) -> torch.dtype:
    """Of x + residual."""
    return x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
