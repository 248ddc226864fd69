"""Stochastic gradient descent, as torch has it."""

from __future__ import annotations

from typing import Any

import torch

from trainer.config import OptimConfig


def descent(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=optim.lr)


def heavy_ball(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.inertia)
