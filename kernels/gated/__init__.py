"""Gated activations (Shazeer, arXiv 2002.05202): SwiGLU and GeGLU, without their intermediate results in memory."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.backends import choose
from kernels.checks import check_float
from kernels.errors import refuse, shape

SILU, GELU, GELU_TANH = "silu", "gelu", "gelu_tanh"


def swiglu(gate: Tensor, up: Tensor, *, backend: str = "auto") -> Tensor:
    """silu(gate) * up, of two tensors of one shape and dtype (views of one fused projection are fine).

    Arithmetic is float32, the result in the dtype of the inputs. The backward pass recomputes the activation.
    """
    return _gated("swiglu", gate, up, SILU, backend)


def geglu(gate: Tensor, up: Tensor, *, approximate: bool = False, backend: str = "auto") -> Tensor:
    """gelu(gate) * up; approximate: the tanh formula (Hendrycks and Gimpel, arXiv 1606.08415; T5 1.1 uses it)."""
    return _gated("geglu", gate, up, GELU_TANH if approximate else GELU, backend)


def _gated(function: str, gate: Tensor, up: Tensor, activation: str, backend: str) -> Tensor:
    check_float(function, "gate", gate)
    check_float(function, "up", up, gate.device)
    if gate.dim() < 1:
        raise refuse(function, "gate", "of shape []", "[..., C]")
    if up.shape != gate.shape or up.dtype != gate.dtype:
        raise refuse(function, "up", f"{up.dtype} {shape(up)}", f"{gate.dtype} {shape(gate)}, like gate")
    chosen = choose(function, backend, gate.device, gate.dtype)
    if chosen == "triton":
        from kernels.gated.triton import run_gated

        return run_gated(gate, up, activation)
    if chosen == "reference":
        return reference_gated(gate, up, activation)
    if activation == SILU:
        return F.silu(gate) * up
    return F.gelu(gate, approximate="tanh" if activation == GELU_TANH else "none") * up


def reference_gated(gate: Tensor, up: Tensor, activation: str, compute_dtype: torch.dtype | None = None) -> Tensor:
    """activation(gate) * up by the papers' formulas, in the dtype of gate; arithmetic at least float32."""
    compute = compute_dtype or torch.promote_types(gate.dtype, torch.float32)
    x = gate.to(compute)
    if activation == SILU:
        active = x * torch.sigmoid(x)
    elif activation == GELU:
        active = 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))
    else:
        active = 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    return (active * up.to(compute)).to(gate.dtype)
