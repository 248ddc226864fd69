"""Fused kernels for pre-training transformers, usable on their own: `from kernels import attention`.

Importing this package does not import Triton; the first call that runs a Triton kernel does.
"""

from __future__ import annotations

from kernels import compile_cache
from kernels.attention import Alibi, AttentionSpec, Dense, PreparedMask, T5Bias, attention, prepare_mask
from kernels.dropout import dropout
from kernels.errors import KernelInputError
from kernels.experts import grouped_linear
from kernels.gated import geglu, swiglu
from kernels.loss import LossSums, cross_entropy, linear_cross_entropy, padded_linear
from kernels.norm import layer_norm, rms_norm
from kernels.rotary import rotary, rotary_tables

compile_cache.tag()

__distribution__ = "isoflop"

__all__ = [
    "Alibi",
    "AttentionSpec",
    "Dense",
    "KernelInputError",
    "LossSums",
    "PreparedMask",
    "T5Bias",
    "attention",
    "cross_entropy",
    "dropout",
    "geglu",
    "grouped_linear",
    "layer_norm",
    "linear_cross_entropy",
    "padded_linear",
    "prepare_mask",
    "rms_norm",
    "rotary",
    "rotary_tables",
    "swiglu",
]
