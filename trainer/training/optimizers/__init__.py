"""The optimizer and its groups of parameters: who decays, and who learns at which share of the rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import OptimConfig
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.models import learning_rate_scales
from trainer.utils.errors import UserError


def make_optimizer(model: nn.Module, optim: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer `optim.name` at its peak rate. Raises UserError where it does not take a parameter."""
    description = OPTIMIZERS[optim.name]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not description.takes(_shape(parameter)):
            raise UserError(f"optim.name: {optim.name} does not take {name}, whose shape is {_shape(parameter)}")
    optimizer: torch.optim.Optimizer = OPTIMIZERS.implementation(optim.name)(parameter_groups(model, optim), optim)
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
            groups.setdefault((len(_shape(parameter)) < 2, scales[name]), []).append(parameter)
    return [
        {"params": members, "weight_decay": 0.0 if vector else optim.weight_decay / scale, "lr_scale": scale}
        for (vector, scale), members in sorted(groups.items(), key=lambda item: item[0])
    ]


def _shape(parameter: Tensor) -> tuple[int, ...]:
    """The whole shape, also of a partitioned parameter."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))
