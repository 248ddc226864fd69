"""Which implementation computes each layer: a choice of speed, which does not change the outcome."""

from __future__ import annotations

from torch import nn

from trainer.config.machinery import KernelsConfig
from trainer.models.attention import Attention
from trainer.models.experts import Experts
from trainer.models.norms import LayerNorm, RMSNorm
from trainer.models.parts import FeedForward, OutputLayer


def use_kernels(model: nn.Module, kernels: KernelsConfig) -> None:
    """Set the backend of every layer but attention, whose backend its backbone is built with, for its masks."""
    for module in model.modules():
        if isinstance(module, RMSNorm | LayerNorm):
            module.backend = kernels.norm
        elif isinstance(module, Attention):
            module.rotary_backend = kernels.rotary
            module.backward_walk = kernels.backward
        elif isinstance(module, FeedForward | Experts):
            module.backend = kernels.gated
            if isinstance(module, Experts):
                module.product_backend = kernels.experts
        elif isinstance(module, OutputLayer):
            module.backend = kernels.loss
