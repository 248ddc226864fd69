"""Fused kernels for pre-training transformers, usable on their own: `from kernels import attention`.

Importing this package does not import Triton; the first call that runs a Triton kernel does.
"""

from __future__ import annotations

from kernels.attention import (
    Alibi,
    AttentionSpec,
    Dense,
    PreparedMask,
    T5Bias,
    attention,
    prepare_mask,
)
from kernels.errors import KernelInputError

__all__ = [
    "Alibi",
    "AttentionSpec",
    "Dense",
    "KernelInputError",
    "PreparedMask",
    "T5Bias",
    "attention",
    "prepare_mask",
]
