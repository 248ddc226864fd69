"""Which implementation computes each layer: machinery, which changes speed and never the outcome."""

from __future__ import annotations

from torch import nn

from trainer.config.machinery import KernelsConfig
from trainer.models.attention import Attention
from trainer.models.parts import FeedForward, LayerNorm, OutputLayer, RMSNorm


def use_kernels(model: nn.Module, kernels: KernelsConfig) -> None:
    """Tell every layer; attention itself hears of its backend when the model is built, with its masks."""
    for module in model.modules():
        if isinstance(module, RMSNorm | LayerNorm):
            module.backend = kernels.norm
        elif isinstance(module, Attention):
            module.rotary_backend = kernels.rotary
        elif isinstance(module, FeedForward):
            module.backend = kernels.gated
        elif isinstance(module, OutputLayer):
            module.backend = kernels.loss
