"""RMSNorm and LayerNorm, with the addition of a residual stream fused in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.backends import choose
from kernels.checks import check_float, check_number
from kernels.errors import refuse, shape
from kernels.norm.cpu import cpu_rms_norm
from kernels.norm.reference import reference_norm, sum_dtype

MAX_COLUMNS = 65536


def rms_norm(
    x: Tensor,
    weight: Tensor,
    *,
    eps: float = 1e-6,
    residual: Tensor | None = None,
    dtype: torch.dtype | None = None,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """x [..., C] divided by the root of its mean square over C, times weight [C].

    residual: of the shape of x; then (normalised x + residual, x + residual) is returned, the second being the new
    stream, both in the dtype that PyTorch gives the sum (a bfloat16 branch on a float32 stream stays exact).
    dtype: of the normalised output, where it is to be another than the sum's. Statistics are float32.
    backend: "triton", "torch", "reference", or "auto" (triton on a GPU, else torch).
    """
    return _norm("rms_norm", x, residual, weight, None, eps, False, dtype, backend)


def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    dtype: torch.dtype | None = None,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """x [..., C] minus its mean over C, divided by its standard deviation, times weight [C] plus bias [C].

    residual, dtype and backend as in `rms_norm`.
    """
    return _norm("layer_norm", x, residual, weight, bias, eps, True, dtype, backend)


def _norm(
    function: str, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor | None, eps: float, center: bool,
    dtype: torch.dtype | None, backend: str,
) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
    check_float(function, "x", x)
    if x.dim() < 1 or not 1 <= x.shape[-1] <= MAX_COLUMNS:
        raise refuse(function, "x", f"of shape {shape(x)}", f"[..., C] with C from 1 to {MAX_COLUMNS}")
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None:
            check_float(function, name, parameter, x.device)
            if parameter.shape != x.shape[-1:]:
                raise refuse(function, name, f"of shape {shape(parameter)}", f"[{x.shape[-1]}], the last size of x")
    if residual is not None:
        check_float(function, "residual", residual, x.device)
        if residual.shape != x.shape:
            raise refuse(function, "residual", f"of shape {shape(residual)}", f"{shape(x)}, like x")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise refuse(function, "dtype", dtype, "a floating dtype, or None for that of the sum")
    eps = check_number(function, "eps", eps, "a number >= 0", low=0.0)
    chosen = choose(function, backend, x.device, sum_dtype(x, residual))
    if chosen == "triton":
        from kernels.norm.triton import run_norm

        out, total, _, _ = run_norm(x, residual, weight.contiguous(), bias, eps, center, dtype)
    elif chosen == "reference":
        out, total = reference_norm(x, residual, weight, bias, eps, center, dtype)
    else:
        total = x if residual is None else x + residual
        out = _torch_norm(total, weight, bias, eps, center, dtype)
    return out if residual is None else (out, total)


def _torch_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, center: bool, dtype: torch.dtype | None
) -> Tensor:
    """By PyTorch's own operations; where a dtype is asked for, in float32 or better until the result is rounded."""
    wide = x if dtype is None else x.to(torch.promote_types(x.dtype, torch.float32))
    dtype = dtype or x.dtype
    if center:
        shift = None if bias is None else bias.to(wide.dtype)
        return F.layer_norm(wide, x.shape[-1:], weight.to(wide.dtype), shift, eps).to(dtype)
    if wide.device.type == "cpu" and wide.dtype in (torch.float32, torch.float64):
        return cpu_rms_norm(wide, weight.to(wide.dtype), eps, dtype)
    return F.rms_norm(wide, x.shape[-1:], weight.to(wide.dtype), eps).to(dtype)
