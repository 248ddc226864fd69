"""Lion: steps of one size in the direction of the sign of an interpolated momentum (Chen et al. 2023, algorithm 2)."""

from __future__ import annotations

from typing import Any

import torch

from trainer.config import OptimConfig


def lion(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    return Lion(groups, {"lr": optim.lr, "betas": (optim.beta1, optim.beta2)})


class Lion(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for weight in (one for one in group["params"] if one.grad is not None):
                state = self.state[weight]
                if "exp_avg" not in state:
                    state["exp_avg"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
                average = state["exp_avg"]
                direction = average.lerp(weight.grad, 1 - beta1).sign_()
                weight.mul_(1 - lr * group["weight_decay"]).add_(direction, alpha=-lr)
                average.lerp_(weight.grad, 1 - beta2)
