"""Schedule-free AdamW: no schedule but a warm-up, and an average in its place (Defazio et al. 2024, algorithm 1).

Three sequences: z takes AdamW's steps without momentum; x is the mean of the z, each weighted by its squared rate; and
y = (1 - beta1) z + beta1 x is where gradients are taken. The parameter is y. x is what is used of a trained model, and
follows from y and z, so nothing else is kept. Decay is that of y, as in the paper; the second moment is corrected for
its beginning as Adam's is, as in the authors' package.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.config import OptimConfig
from trainer.training.optimizers.pieces import PieceOptimizer


def schedule_free(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    return ScheduleFree(groups, optim)


class ScheduleFree(PieceOptimizer):
    def update(self, group: dict[str, Any], tensor: Tensor) -> None:
        optim, states, lr = self.optim, self.states_of(tensor), group["lr"]
        steps, peak = float(states["step"]), optim.lr * group["lr_scale"]
        assert tensor.grad is not None
        if steps == 1:
            states["z"].copy_(tensor)
        second = states["exp_avg_sq"]
        second.mul_(optim.beta2).addcmul_(tensor.grad, tensor.grad, value=1 - optim.beta2)
        root = (second / (1 - optim.beta2**steps)).sqrt_().add_(group.get("eps", optim.epsilon))
        update = (tensor.grad / root).add_(tensor, alpha=group["weight_decay"])
        share = self._new_share(tensor, lr / peak if peak else 1.0)
        # y moves by (1 - beta1) of the step of z, and by beta1 of what x moves: `share` of the way to the new z.
        tensor.lerp_(states["z"], share)
        tensor.add_(update, alpha=-lr * (1 - optim.beta1 * (1 - share)))
        states["z"].add_(update, alpha=-lr)

    def _new_share(self, tensor: Tensor, rate: float) -> float:
        """Share of the newest z in x, of all parameters in a tensor that is stepped on. rate: of the step, as a share
        of the peak; sums of its squares count whole steps exactly once the rate is constant."""
        sums = [piece.states["rate_squares"].add_(rate * rate) for piece in self.pieces(tensor).values()]
        return rate * rate / float(sums[0]) if sums else 1.0  # all are equal; none: nothing of a parameter is here
