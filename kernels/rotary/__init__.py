"""Rotary position embedding (Su et al., arXiv 2104.09864): half-split or interleaved pairs, whole or partial heads."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.backends import choose
from kernels.checks import check_float, check_number, check_whole
from kernels.errors import refuse, shape


def rotary_tables(positions: Tensor, rotary_dim: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """(cos, sin), float32 [..., rotary_dim / 2], of positions [...]: pair i turns by position * base^(-2 i / dim)."""
    if not isinstance(positions, Tensor):
        raise refuse("rotary_tables", "positions", type(positions).__name__, "a tensor")
    if check_whole("rotary_tables", "rotary_dim", rotary_dim, "an even number >= 2", low=2) % 2:
        raise refuse("rotary_tables", "rotary_dim", rotary_dim, "an even number >= 2")
    if check_number("rotary_tables", "base", base, "a positive number", low=0.0) == 0.0:
        raise refuse("rotary_tables", "base", base, "a positive number")
    powers = torch.arange(0, rotary_dim, 2, device=positions.device, dtype=torch.float64) / rotary_dim
    angles = positions.to(torch.float64).unsqueeze(-1) * base**-powers
    return angles.cos().to(torch.float32), angles.sin().to(torch.float32)


def rotary(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool = False, backend: str = "auto") -> Tensor:
    """Turn each pair (a, b) of a head into (a cos - b sin, b cos + a sin).

    x: [B, S, H, D], any strides. cos, sin: [S, R / 2] or [B, S, R / 2] with R <= D even; they carry no gradient, and
    the last D - R entries of a head pass through. Pairs are (i, i + R / 2), or (2 i, 2 i + 1) with `interleaved`.
    Arithmetic is float32, the result in the dtype of x.
    """
    check_float("rotary", "x", x)
    if x.dim() != 4:
        raise refuse("rotary", "x", f"of shape {shape(x)}", "[batch, length, heads, head_dim]")
    batch, length, _, head_dim = x.shape
    for name, table in (("cos", cos), ("sin", sin)):
        check_float("rotary", name, table, x.device)
        fits = table.dim() in (2, 3) and table.shape[-2] == length and 2 <= 2 * table.shape[-1] <= head_dim
        if not fits or (table.dim() == 3 and table.shape[0] not in (1, batch)) or table.shape != cos.shape:
            wanted = f"[{length}, R/2] or [{batch}, {length}, R/2] with R up to {head_dim}, the same for cos and sin"
            raise refuse("rotary", name, f"of shape {shape(table)}", wanted)
        if table.requires_grad:
            raise refuse("rotary", name, "a tensor that requires a gradient", "fixed angles")
    cos, sin = (table if table.dim() == 3 else table.unsqueeze(0) for table in (cos, sin))
    if choose("rotary", backend, x.device, x.dtype) == "triton":
        from kernels.rotary.triton import run_rotary

        return run_rotary(x, cos.contiguous(), sin.contiguous(), interleaved)
    return rotate(x, cos, sin, interleaved)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, compute_dtype: torch.dtype | None = None) -> Tensor:
    """The reference, and what PyTorch runs: there is no faster way to say it. cos, sin: [B or 1, S, R / 2]."""
    compute = compute_dtype or torch.promote_types(x.dtype, torch.float32)
    size = 2 * cos.shape[-1]
    turned = x[..., :size].to(compute)
    c, s = (table.unsqueeze(2).to(compute) for table in (cos, sin))
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        out = torch.stack((a * c - b * s, b * c + a * s), dim=-1).flatten(-2)
    else:
        a, b = turned.chunk(2, dim=-1)
        out = torch.cat((a * c - b * s, b * c + a * s), dim=-1)
    out = out.to(x.dtype)
    return out if size == x.shape[-1] else torch.cat((out, x[..., size:]), dim=-1)
