"""LAMB: Adam's update of each parameter, as long as the parameter itself (You et al. 2020, algorithm 2).

As in the authors' released code, vectors are neither decayed nor scaled. A norm is that of the whole parameter, summed
over the ranks that hold its parts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.config import OptimConfig
from trainer.training.optimizers.pieces import PieceOptimizer


def lamb(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    return Lamb(groups, optim, betas=(optim.beta1, optim.beta2))


class Lamb(PieceOptimizer):
    def update(self, group: dict[str, Any], tensor: Tensor) -> None:
        optim, states = self.optim, self.states_of(tensor)
        assert tensor.grad is not None
        steps, lr, (beta1, beta2) = float(states["step"]), group["lr"], group["betas"]
        first, second = states["exp_avg"], states["exp_avg_sq"]
        first.lerp_(tensor.grad, 1 - beta1)
        second.mul_(beta2).addcmul_(tensor.grad, tensor.grad, value=1 - beta2)
        root = (second / (1 - beta2**steps)).sqrt_().add_(group.get("eps", optim.epsilon))
        update = (first / (1 - beta1**steps)).div_(root).add_(tensor, alpha=group["weight_decay"])
        if group["role"] == "vector":
            tensor.add_(update, alpha=-lr)
            return
        names, pieces = list(self.held[id(tensor)]), self.pieces(tensor)
        parts = {name: update.view(-1).narrow(0, one.place.offset, one.place.numel) for name, one in pieces.items()}
        squares = torch.zeros(2, len(names), dtype=torch.float64, device=tensor.device)
        for index, name in enumerate(names):
            if name in pieces:
                squares[0, index] = pieces[name].weight.square().sum()
                squares[1, index] = parts[name].square().sum()
        self.ranks.sum(squares, tensor)
        norms = squares.sqrt().T.tolist()
        for name, (weight_norm, update_norm) in zip(names, norms, strict=True):
            if name in pieces:
                trust = weight_norm / update_norm if weight_norm and update_norm else 1.0
                pieces[name].weight.add_(parts[name], alpha=-lr * trust)
