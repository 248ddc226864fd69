"""How far a token's segment reaches, so that kernels skip the tiles of other documents and the mask inside one.
O(S) memory, no atomics."""

from __future__ import annotations

import torch
from torch import Tensor


def reach(own: Tensor, other: Tensor) -> Tensor:
    """own int32 [B, S], other int32 [B, T] -> int32 [B, 3, S], rows lo, hi and run.

    lo, hi: every member of `other` in the same segment lies in [lo, hi). Tight where segment numbers ascend (packed
    documents), a valid bound in any order; a negative segment reaches nothing (lo = T, hi = 0).
    run: every member of `other` in [lo, run) is in the same segment, whatever the order of the numbers; run <= lo where
    no such stretch begins at lo.

    The first member with a number >= s is found in the running maximum, which ascends; the last one with a number <= s
    in the running minimum from the end. Padding must not move either.
    """
    length = other.shape[1]
    batch = max(own.shape[0], other.shape[0])
    own, other = own.expand(batch, -1).contiguous(), other.expand(batch, -1).contiguous()
    if length == 0:
        return torch.zeros((batch, 3, own.shape[1]), dtype=torch.int32, device=own.device)
    top = torch.iinfo(torch.int32).max
    rising = torch.cummax(other, dim=1).values
    sinking = torch.where(other < 0, torch.full_like(other, top), other).flip(1)
    falling = torch.cummin(sinking, dim=1).values.flip(1)
    lo = torch.searchsorted(rising, own, out_int32=True)
    hi = torch.searchsorted(falling, own, right=True, out_int32=True)

    # The stretch of equal numbers that holds a member ends where the next one begins.
    place = torch.arange(1, length + 1, device=other.device, dtype=torch.int32).expand(batch, -1)
    last = torch.ones_like(other, dtype=torch.bool)
    last[:, :-1] = other[:, 1:] != other[:, :-1]
    ends = torch.cummin(torch.where(last, place, length).flip(1), dim=1).values.flip(1)
    first = lo.clamp(max=length - 1).long()
    run = torch.where(other.gather(1, first) == own, ends.gather(1, first), 0)

    absent = own < 0
    return torch.stack((lo.masked_fill(absent, length), hi.masked_fill(absent, 0), run.masked_fill(absent, 0)), dim=1)


def hull(reaches: Tensor) -> Tensor:
    """int32 [B, 3, S] of `reach` -> int32 [B, 2, S]: lo and hi, widened so that neither falls from a token to the next.

    The least lo of this token and those after it, the greatest hi of it and those before it: the same where segment
    numbers ascend.
    """
    lo = torch.cummin(reaches[:, 0].flip(1), dim=1).values.flip(1)
    return torch.stack((lo, torch.cummax(reaches[:, 1], dim=1).values), dim=1)
