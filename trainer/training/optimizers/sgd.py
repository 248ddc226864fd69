"""Stochastic gradient descent with momentum (Polyak 1964; Sutskever et al. 2013), and decoupled decay (Loshchilov and
Hutter 2019, algorithm 1)."""

from __future__ import annotations

from typing import Any

import torch

from trainer.config import OptimConfig


def sgd(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    return Sgd(groups, {"lr": optim.lr, "momentum": optim.momentum, "nesterov": optim.nesterov})


class Sgd(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in (one for one in group["params"] if one.grad is not None):
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
                velocity = state["momentum_buffer"].mul_(group["momentum"]).add_(weight.grad)
                update = weight.grad.add(velocity, alpha=group["momentum"]) if group["nesterov"] else velocity
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
