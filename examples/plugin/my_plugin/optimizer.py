"""Steps along the signs of a running mean of the gradient."""

from __future__ import annotations

from typing import Any

import torch

from trainer.config import OptimConfig


class SignMomentum(torch.optim.Optimizer):
    def __init__(self, groups: list[dict[str, Any]], lr: float, share: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.share = share

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                mean = state["mean"].lerp_(parameter.grad, 1 - self.share)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(mean.sign(), alpha=-group["lr"])


def sign_momentum(groups: list[dict[str, Any]], optim: OptimConfig) -> SignMomentum:
    return SignMomentum(groups, optim.lr, optim.mean_share)
