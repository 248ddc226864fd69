"""The loads of experts in a step, over all ranks: what they say of the routers, and the bias that evens them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.models.experts import Experts
from trainer.models.losses import BALANCE_TERM, ROUTER_Z_TERM
from trainer.models.routing import LOADS, LOADS_GIVEN, TARGETS_GIVEN
from trainer.training.distributed import World


class ExpertLoads:
    """Tokens that chose each expert of each layer. Empty where the model has no experts."""

    def __init__(self, model: nn.Module, world: World) -> None:
        trained = [one for one in model.modules() if isinstance(one, Experts) and one.up.requires_grad]
        self.layers, self.world = trained, world
        self.mine: Tensor | None = None  # of this rank so far, int64 [layers, E + 1], the last for pairs dropped
        self.step: list[list[float]] = []  # of all ranks in the last step, as `mine`

    def take(self, sums: dict[str, Tensor]) -> None:
        """Take the loads of a forward pass out of its side sums."""
        found = sums.pop(LOADS, None)
        if found is not None:
            self.mine = found if self.mine is None else self.mine + found

    def finish(self) -> None:
        """Add up over the ranks what was taken since the last time. Collective."""
        self.step = []
        if self.mine is not None:
            flat = self.world.sum(*self.mine.flatten().tolist())
            columns = self.mine.shape[1]
            self.step = [flat[at : at + columns] for at in range(0, len(flat), columns)]
        self.mine = None

    def of_batch(
        self, micro_batches: Sequence[Mapping[str, Any]], forward: Callable[[Mapping[str, Any]], dict[str, Tensor]]
    ) -> Tensor:
        """The loads [layers, E] of the whole batch, float64, by forward passes before its step. Collective.

        forward: the side sums of a micro-batch."""
        with torch.no_grad():
            for batch in micro_batches:
                self.take(forward(batch))
        self.finish()
        return torch.tensor(self.step, dtype=torch.float64)[:, :-1]

    @torch.no_grad()
    def move_biases(self) -> None:
        """After an update: an expert with less than the mean load of the step is chosen a little sooner from now on,
        one with more a little later (DeepSeek-V3, section 2.1.2; Wang et al. 2024, algorithm 1)."""
        for layer, counts in zip(self.layers, self.step, strict=False):
            if layer.config.by_bias:
                loads = torch.tensor(counts[:-1], dtype=torch.float64)
                step = layer.config.bias_rate * torch.sign(loads.mean() - loads)
                layer.balance_bias += step.to(layer.balance_bias)

    def record(self, sums: Mapping[str, float], targets: float) -> dict[str, float]:
        """Of the last step, over the layers: the entropy of the loads as a share of that of even ones (mean and
        lowest), the share of choices beyond the capacity (mean and highest), and experts that no token chose (all, and
        most of a layer); and what routers add to the loss, of the sums of so many targets."""
        if not self.step:
            return {}
        evenness = [_evenness(counts[:-1]) for counts in self.step]
        dropped = [counts[-1] / max(sum(counts[:-1]), 1.0) for counts in self.step]
        dead = [sum(not load for load in counts[:-1]) for counts in self.step]
        return {
            "load_entropy": sum(evenness) / len(evenness),
            "load_entropy_lowest": min(evenness),
            "dropped_share": sum(dropped) / len(dropped),
            "dropped_share_highest": max(dropped),
            "dead_experts": sum(dead),
            "dead_experts_most": max(dead),
            **{name: sums[name] / max(targets, 1.0) for name in (BALANCE_TERM, ROUTER_Z_TERM)},
        }


def _evenness(loads: Sequence[float]) -> float:
    """Entropy of the shares of these loads over that of even ones; 1 for a single expert."""
    total = sum(loads)
    if not total or len(loads) == 1:
        return 1.0
    return -sum(load / total * math.log(load / total) for load in loads if load) / math.log(len(loads))


def with_loads(tensors: dict[str, Tensor], loads: Tensor | None, targets: float) -> dict[str, Tensor]:
    """The tensors of a micro-batch and the loads [layers, E] of the whole batch, which has so many targets."""
    if loads is None:
        return tensors
    device = tensors["tokens"].device
    given = {LOADS_GIVEN: loads.to(device), TARGETS_GIVEN: torch.tensor(targets, dtype=torch.float64, device=device)}
    return tensors | given
