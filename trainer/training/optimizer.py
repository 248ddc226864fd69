"""AdamW and its groups of parameters: who decays, and who learns at which share of the rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import OptimConfig
from trainer.models import learning_rate_scales


def adamw(model: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """The optimizer at its peak rate."""
    groups, betas = parameter_groups(model, optim), (optim.beta1, optim.beta2)
    optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=betas, eps=optim.epsilon, fused=True)
    set_learning_rate(optimizer, optim.lr)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def parameter_groups(model: nn.Module, optim: OptimConfig) -> list[dict[str, Any]]:
    """Decay on matrices only: norms, biases and other vectors are left alone.

    A group learns at `lr_scale` of the rate (1 but under muP) and decays by lr x weight_decay a step whatever its
    scale, as in the authors' own package."""
    scales = learning_rate_scales(model)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((_dimensions(parameter) < 2, scales[name]), []).append(parameter)
    return [
        {"params": members, "weight_decay": 0.0 if vector else optim.weight_decay / scale, "lr_scale": scale}
        for (vector, scale), members in sorted(groups.items(), key=lambda item: item[0])
    ]


def _dimensions(parameter: Tensor) -> int:
    return len(getattr(parameter, "ds_shape", parameter.shape))  # the whole shape of a partitioned parameter
