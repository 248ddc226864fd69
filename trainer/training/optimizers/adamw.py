"""AdamW, as torch has it."""

from __future__ import annotations

from typing import Any

import torch

from trainer.config import OptimConfig


def adamw(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.beta1, optim.beta2), eps=optim.epsilon, fused=True)
