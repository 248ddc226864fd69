"""FlashAttention's rule: a kernel's error against float64 is at most twice that of the plain formula in its own dtype.

With an allowance in units in the last place of the case's largest result, for what the plain formula happens to hit
(a gradient that cancels to 0, say): 16 in float32, because kernels recompute probabilities from a rounded log-sum-exp,
and half a unit in half precision, because they take rowsum(dO * O) from the rounded output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ULPS = {torch.float32: 16.0, torch.bfloat16: 0.5, torch.float16: 0.5}


def check(
    names: Sequence[str], ours: Sequence[Tensor], peers: Sequence[Tensor], oracles: Sequence[Tensor], dtype: torch.dtype
) -> None:
    """ours: the kernel; peers: the plain formula in `dtype`; oracles: float64. Infinities must agree exactly."""
    finite = [torch.isfinite(oracle) for oracle in oracles]
    largest = max(o[f].abs().max().item() for o, f in zip(oracles, finite, strict=True) if f.any())
    allowance = ULPS[dtype] * torch.finfo(dtype).eps * largest
    for name, got, peer, oracle, here in zip(names, ours, peers, oracles, finite, strict=True):
        assert got.shape == oracle.shape, f"{name}: shape {list(got.shape)}, wanted {list(oracle.shape)}"
        assert torch.equal(torch.isfinite(got), here), f"{name}: not finite where float64 is, or the reverse"
        if here.any():
            error = (got.double() - oracle)[here].abs().max().item()
            peer_error = (peer.double() - oracle)[here].nan_to_num(torch.inf).abs().max().item()
            allowed = 2 * peer_error + allowance
            assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g} (peer {peer_error:.3g})"
