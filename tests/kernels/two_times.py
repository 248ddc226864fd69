"""FlashAttention's rule: a kernel's error against float64 is at most twice that of the plain formula in its own dtype.

With an allowance for results that the plain formula happens to hit: in half precision FlashAttention's own (what the
dtype loses on adding and subtracting 0.3), in float32 16 units in the last place of the case's largest result, because
kernels recompute probabilities from a rounded log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ULPS = 16


def allowance(oracle: Tensor, dtype: torch.dtype, largest: float) -> float:
    if dtype == torch.float32:
        return ULPS * torch.finfo(dtype).eps * largest
    value = oracle.to(dtype)
    return 2 * ((value + 0.3 - 0.3) - value).abs().max().item()


def check(
    names: Sequence[str], ours: Sequence[Tensor], peers: Sequence[Tensor], oracles: Sequence[Tensor], dtype: torch.dtype
) -> None:
    """ours: the kernel; peers: the plain formula in `dtype`; oracles: float64. Infinities must agree exactly."""
    finite = [torch.isfinite(oracle) for oracle in oracles]
    largest = max(o[f].abs().max().item() for o, f in zip(oracles, finite, strict=True) if f.any())
    for name, got, peer, oracle, here in zip(names, ours, peers, oracles, finite, strict=True):
        assert got.shape == oracle.shape, f"{name}: shape {list(got.shape)}, wanted {list(oracle.shape)}"
        assert torch.equal(torch.isfinite(got), here), f"{name}: not finite where float64 is, or the reverse"
        if here.any():
            error = (got.double() - oracle)[here].abs().max().item()
            peer_error = (peer.double() - oracle)[here].nan_to_num(torch.inf).abs().max().item()
            allowed = 2 * peer_error + allowance(oracle[here], dtype, largest)
            assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g} (peer {peer_error:.3g})"
