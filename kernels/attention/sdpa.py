"""The specification over PyTorch's scaled_dot_product_attention, for the fields that it can honour."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kernels.attention.masks import bias_tensor, hide, visible_mask
from kernels.attention.spec import AttentionSpec


def sdpa_mask(spec: AttentionSpec, q_len: int, k_len: int, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """(visible, additive): what SDPA needs beyond `is_causal`; both None for plain and plain causal attention."""
    additive = bias_tensor(spec.bias, q_len, k_len, like.dtype, like.device)
    aligned = q_len == k_len or q_len == 1  # the only query stands at the last key: causality hides nothing from it
    if additive is None and spec.plain and (spec.right is None or aligned):
        return None, None
    visible = visible_mask(spec, q_len, k_len, like.device)
    return visible, None if additive is None else hide(additive, visible)


def sdpa_attention(
    q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, visible: Tensor | None, additive: Tensor | None
) -> Tensor:
    """q [B, Sq, H, D], k and v [B, Sk, Hkv, D] -> [B, Sq, H, D]. Mask and bias come from `sdpa_mask`."""
    batch, q_len, heads, head_dim = q.shape
    kv_heads = k.shape[2]
    mask = additive if additive is not None else visible
    is_causal = mask is None and spec.right == 0 and q_len > 1
    queries = q.transpose(1, 2)
    folded = q_len == 1 and kv_heads < heads
    if folded:  # a token is written: the heads of a group stand as queries of their key head, and no key is copied
        queries = q.reshape(batch, kv_heads, heads // kv_heads, head_dim)
        if mask is not None and mask.shape[1] == heads:
            mask = mask.reshape(-1, kv_heads, heads // kv_heads, mask.shape[3])
    elif kv_heads < heads:
        k, v = (x.unsqueeze(3).expand(-1, -1, -1, heads // kv_heads, -1).flatten(2, 3) for x in (k, v))
    keys, values = k.transpose(1, 2), v.transpose(1, 2)
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=is_causal, scale=spec.scale)
    return out.reshape(batch, 1, heads, head_dim) if folded else out.transpose(1, 2)
