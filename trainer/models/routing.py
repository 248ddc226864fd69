"""What the routers of one forward pass did, and the losses that this adds to what is minimised.

Both are sums over groups of sequences, each group weighing as much as its sequences have targets, so that loss and
gradients are the same however sequences are divided into micro-batches and ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.config.experts import ExpertsConfig
from trainer.models.losses import BALANCE_TERM, NOT_A_TARGET, ROUTER_Z_TERM
from trainer.models.sequence import WHOLE, Sequences

LOADS = "expert_loads"  # side sum: int64 [layers, experts + 1], the tokens that chose each expert, and pairs dropped
LOADS_GIVEN = "loads_of_batch"  # tensor of a batch: float64 [layers, experts], those of the whole batch
TARGETS_GIVEN = "targets_of_batch"  # tensor of a batch: float64 [], its targets over all ranks


class Routed(NamedTuple):
    """What one layer's router did, padding left out."""

    tokens: Tensor  # int64 [B], of each sequence
    z: Tensor  # fp32 [B], sums of the squared logarithms of the softmax denominators
    chosen: Tensor  # int64 [groups, E], the tokens that chose each expert
    scores: Tensor  # fp32 [groups, E], sums of the tokens' scores, which add up to 1 for each
    dropped: Tensor  # int64 [], pairs of token and expert beyond the capacity


class Routing:
    """What all routers of one forward pass did, in the order of the layers."""

    def __init__(self) -> None:
        self.layers: list[Routed] = []
        self.open = True

    def add(self, routed: Routed) -> None:
        """A block that is computed again in the backward pass was counted before."""
        if self.open:
            self.layers.append(routed)

    def losses(
        self,
        experts: ExpertsConfig,
        targets: Tensor,
        loads: Tensor | None = None,
        all_targets: Tensor | None = None,
        sequences: Sequences = WHOLE,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum that is added to the loss (fp32) and side sums: its two terms and the loads.

        targets [B]: of each sequence. loads, all_targets: of the whole batch, where that is the group. sequences: how
        their positions are divided over ranks; the sums are then this rank's part."""
        weights = sequences.total(targets.float())
        balance = z = weights.new_zeros(())
        for layer, routed in enumerate(self.layers):
            tokens = sequences.total(routed.tokens)
            if experts.z_loss:
                z = z + experts.z_loss * (weights * routed.z / tokens.clamp(min=1)).sum()
            if experts.loss_weight and loads is not None and all_targets is not None:
                even = even_loss_of_batch(routed.scores.sum(0), loads[layer], experts.per_token)
                balance = balance + experts.loss_weight * all_targets.float() * even
            elif experts.loss_weight:
                groups = len(routed.chosen)
                of_group, chosen = tokens.view(groups, -1).sum(1), sequences.total(routed.chosen)
                even = even_loss(routed.scores, chosen, of_group, experts.per_token)
                balance = balance + experts.loss_weight * (weights.view(groups, -1).sum(1) * even).sum()
        told = [torch.cat((one.chosen.sum(0), one.dropped[None])) for one in self.layers]
        sums = {BALANCE_TERM: balance.detach(), ROUTER_Z_TERM: z.detach(), LOADS: torch.stack(told)}
        return balance + z, sums


def even_loss(scores: Tensor, chosen: Tensor, tokens: Tensor, per_token: int) -> Tensor:
    """E sum_i f_i P_i of every group [groups] (Fedus et al. 2022, equation 4): f_i the share of the group's choices
    that fell on expert i, P_i its mean score. 1 where loads are even, also where a token chooses several (as Dai et al.
    2024, equation 12)."""
    many = tokens.clamp(min=1)[:, None]
    return scores.shape[-1] * (chosen / (per_token * many) * (scores / many)).sum(-1)


def even_loss_of_batch(scores: Tensor, loads: Tensor, per_token: int) -> Tensor:
    """A pass' part of the same over a whole batch: scores [E] of its own tokens, loads [E] of all."""
    choices = loads.sum().clamp(min=1)
    return scores.shape[-1] * ((loads / choices).float() * (scores / (choices / per_token).float())).sum()


def targets_of_rows(targets: Tensor, rows: int) -> Tensor:
    """Targets of each of `rows` sequences, of targets [B, ...]; of a record of several sequences in equal parts."""
    there = targets != NOT_A_TARGET
    counts = (there.flatten(1).sum(1) if there.dim() > 1 else there).float()
    several = rows // len(counts)
    return counts.repeat_interleave(several) / several


@contextmanager
def watched(backbone: nn.Module) -> Iterator[Routing]:
    """What the routers of a backbone do in the forward passes inside of this."""
    routing = Routing()
    stacks: list[Any] = [module for module in backbone.modules() if hasattr(module, "routing")]
    for stack in stacks:
        stack.routing = routing
    try:
        yield routing
    finally:
        routing.open = False
        for stack in stacks:
            stack.routing = None


def given_loads(batch: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """Loads and targets of the whole batch, where they were counted before."""
    return batch.get(LOADS_GIVEN), batch.get(TARGETS_GIVEN)
