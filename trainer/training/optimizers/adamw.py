"""AdamW, as torch has it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.config import OptimConfig


def adamw(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.beta1, optim.beta2), eps=optim.epsilon, fused=True)


def adamw_update(
    weight: Tensor, states: dict[str, Tensor], lr: float, decay: float, betas: tuple[float, float], epsilon: float
) -> None:
    """The same update of one tensor by itself, for optimizers that train a part of the parameters so."""
    assert weight.grad is not None
    first, second, steps = states["exp_avg"], states["exp_avg_sq"], float(states["step"])
    first.lerp_(weight.grad, 1 - betas[0])
    second.mul_(betas[1]).addcmul_(weight.grad, weight.grad, value=1 - betas[1])
    root = (second / (1 - betas[1] ** steps)).sqrt_().add_(epsilon)
    weight.mul_(1 - lr * decay).addcdiv_(first, root, value=-lr / (1 - betas[0] ** steps))
