"""Dynamic tanh: weight * tanh(alpha * x) + bias, without statistics (Zhu et al. 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.config.model import ModelConfig
from trainer.models.norms import Norm


class DynamicTanh(Norm):
    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(1))
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.starts = {"alpha": config.tanh_alpha}

    def normalized(self, x: Tensor) -> Tensor:
        return self.weight * torch.tanh(self.alpha * x) + self.bias
