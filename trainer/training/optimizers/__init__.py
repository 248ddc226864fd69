"""The optimizer and its groups of parameters: who decays, and who learns at which share of the rate."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from trainer.config import OptimConfig
from trainer.descriptions.optimizers import OPTIMIZERS, Role
from trainer.models.expert_ranks import ranks_of, whole_shape
from trainer.models.parametrization import Scale, parameter_scales
from trainer.models.roles import roles
from trainer.utils.errors import UserError


def make_optimizer(model: nn.Module, optim: OptimConfig, *, apart: Collection[str] = ()) -> torch.optim.Optimizer:
    """The optimizer `optim.name` at its peak rate. Raises UserError where it does not take a parameter.

    apart: names of parameters that share no group with others."""
    description = OPTIMIZERS[optim.name]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not description.takes(whole_shape(parameter)):
            raise UserError(f"optim.name: {optim.name} does not take {name}, whose shape is {whole_shape(parameter)}")
    groups = parameter_groups(model, optim, apart)
    optimizer: torch.optim.Optimizer = OPTIMIZERS.implementation(optim.name)(groups, optim)
    set_learning_rate(optimizer, optim.lr)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def set_weight_decay(optimizer: torch.optim.Optimizer, weight_decay: float) -> None:
    """Take this value of optim.weight_decay for the next update, as `parameter_groups` did with the first one."""
    for group in optimizer.param_groups:
        group["weight_decay"] = weight_decay * group["decay_scale"]


def set_momentum(optimizer: torch.optim.Optimizer, momentum: float) -> None:
    """Take this value of the key that the description names as `momentum` for the next update."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


class GroupKey(NamedTuple):
    """What the parameters of a group have in common."""

    role: Role | None  # None: of any
    vector: bool
    scale: Scale  # under muP and CompleteP
    apart: bool
    shared: str  # of the ranks that share its experts; empty: each has all


def parameter_groups(model: nn.Module, optim: OptimConfig, apart: Collection[str] = ()) -> list[dict[str, Any]]:
    """Decay on matrices only: norms, biases and other vectors are left alone.

    A group learns at `lr_scale` of the rate: 1 but under muP and CompleteP, times the multiplier of its role. It decays
    by lr x weight_decay a step whatever the width, as in the authors' own package (or, by optim.mup_weight_decay, by
    its own rate x weight_decay), times the multiplier of its role. `eps` is there where epsilon is scaled.
    """
    description = OPTIMIZERS[optim.name]
    power, follows = description.mup_power, description.follows_gradient
    scales = parameter_scales(model, power, follows_gradient=follows, decay=optim.mup_weight_decay)
    role_of = roles(model)
    by_role = description.by_role or bool(optim.lr_by_role or optim.decay_by_role)
    groups: dict[GroupKey, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            role, ranks = role_of[name] if by_role else None, ranks_of(parameter)
            shared = ranks.name if ranks else ""
            key = GroupKey(role, len(whole_shape(parameter)) < 2, scales[name], name in apart, shared)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": groups[key],
            "weight_decay": _decay(optim.weight_decay, key, optim),
            "decay_scale": _decay(1.0, key, optim),
            "lr_scale": key.scale.rate * _factor(optim.lr_by_role, key),
        }
        | ({"role": key.role} if by_role else {})
        | ({"eps": optim.epsilon * key.scale.epsilon} if key.scale.epsilon != 1 else {})
        | ({"moe": True, "name": key.shared} if key.shared else {})  # DeepSpeed divides it over other ranks
        for key in sorted(groups, key=lambda key: (key.vector, key.scale, key.role or "", key.apart, key.shared))
    ]


def _decay(weight_decay: float, key: GroupKey, optim: OptimConfig) -> float:
    return 0.0 if key.vector else weight_decay / key.scale.decay_divisor * _factor(optim.decay_by_role, key)


def _factor(by_role: Mapping[Role, float], key: GroupKey) -> float:
    return 1.0 if key.role is None else by_role.get(key.role, 1.0)
