"""How far a token's segment reaches, so that kernels skip the tiles of other documents. O(S) memory, no atomics."""

from __future__ import annotations

import torch
from torch import Tensor


def reach(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """own int32 [B, S], other int32 [B, T] -> lo, hi int32 [B, S]: every member of `other` in the same segment lies in
    [lo, hi). Tight where segment numbers ascend (packed documents), a valid bound in any order; a negative segment
    reaches nothing (lo = T, hi = 0).

    The first member with a number >= s is found in the running maximum, which ascends; the last one with a number <= s
    in the running minimum from the end. Padding must not move either.
    """
    length = other.shape[1]
    top = torch.iinfo(torch.int32).max
    rising = torch.cummax(other, dim=1).values
    sinking = torch.where(other < 0, torch.full_like(other, top), other).flip(1)
    falling = torch.cummin(sinking, dim=1).values.flip(1)
    batch = max(own.shape[0], other.shape[0])
    numbers = own.expand(batch, -1).contiguous()
    lo = torch.searchsorted(rising.expand(batch, -1).contiguous(), numbers, out_int32=True)
    hi = torch.searchsorted(falling.expand(batch, -1).contiguous(), numbers, right=True, out_int32=True)
    absent = numbers < 0
    return lo.masked_fill(absent, length), hi.masked_fill(absent, 0)
