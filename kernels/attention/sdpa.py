"""The specification over PyTorch's scaled_dot_product_attention, for the fields that it can honour."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kernels.attention.masks import bias_tensor, hide, visible_mask
from kernels.attention.spec import AttentionSpec


def sdpa_lacks(spec: AttentionSpec) -> str | None:
    """The first field that SDPA has no means for, or None."""
    if spec.softcap > 0.0:
        return "softcap"
    if spec.sink is not None:
        return "sink"
    if spec.return_lse:
        return "return_lse"
    if spec.dropout_p > 0.0:
        return "dropout_p"  # its dropout draws from the global generator, not from (seed, row, column)
    return None


def sdpa_mask(spec: AttentionSpec, q_len: int, k_len: int, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """(visible, additive): what SDPA needs beyond `is_causal`; both None for plain and plain causal attention."""
    additive = bias_tensor(spec.bias, q_len, k_len, like.dtype, like.device)
    if additive is None and spec.plain and (spec.right is None or q_len == k_len):
        return None, None
    visible = visible_mask(spec, q_len, k_len, like.device)
    return visible, None if additive is None else hide(additive, visible)


def sdpa_attention(
    q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, visible: Tensor | None, additive: Tensor | None
) -> Tensor:
    """q [B, Sq, H, D], k and v [B, Sk, Hkv, D] -> [B, Sq, H, D]. Mask and bias come from `sdpa_mask`."""
    groups = q.shape[2] // k.shape[2]
    if groups > 1:
        k, v = (x.unsqueeze(3).expand(-1, -1, -1, groups, -1).flatten(2, 3) for x in (k, v))
    queries, keys, values = (x.transpose(1, 2) for x in (q, k, v))
    mask = additive if additive is not None else visible
    is_causal = mask is None and spec.right == 0
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=is_causal, scale=spec.scale)
    return out.transpose(1, 2)
