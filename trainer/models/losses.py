"""Sums of losses in nats, in fp32. The caller divides, by counts that are global."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import LossSums, cross_entropy
from trainer.utils.targets import NOT_A_TARGET

# Side sums that are part of what is minimised and not of the loss that is told: the z term over the targets, and what
# the routers of experts add.
Z_TERM, BALANCE_TERM, ROUTER_Z_TERM = "z_loss", "balance_loss", "router_z_loss"
ADDED_TERMS = (Z_TERM, BALANCE_TERM, ROUTER_Z_TERM)


def token_loss(
    logits: Tensor,
    targets: Tensor,
    smoothing: float = 0.0,
    *,
    z_loss: float = 0.0,
    softcap: float = 0.0,
    backend: str = "torch",
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Sum of the cross-entropy of logits [B, S, V] over the targets [B, S] that are not NOT_A_TARGET, plus the z term,
    their count, and the z term alone as a side sum, where there is one.

    smoothing: share of every target that is spread evenly over the vocabulary (Szegedy et al. 2016, section 7). z_loss:
    coefficient of the squared log of the softmax denominator (Chowdhery et al. 2022, section 5; Zoph et al. 2022,
    equation 5). softcap: logits become softcap tanh(logits / softcap) (Gemma 2, 2024, section 2). backend: of
    `kernels.cross_entropy`, which computes what PyTorch's own has not.
    """
    if z_loss or softcap:
        sums = cross_entropy(
            logits,
            targets,
            ignore_index=NOT_A_TARGET,
            label_smoothing=smoothing,
            z_loss=z_loss,
            softcap=softcap,
            backend=backend,
        )
        return of_sums(sums, z_loss)
    flat, wanted = logits.flatten(0, 1).float(), targets.flatten()
    loss = F.cross_entropy(flat, wanted, ignore_index=NOT_A_TARGET, reduction="sum", label_smoothing=smoothing)
    return loss, (targets != NOT_A_TARGET).sum(), {}


def of_sums(sums: LossSums, z_loss: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """What a kernel found, in the form of `token_loss`."""
    return sums.total, sums.targets, {Z_TERM: sums.z} if z_loss else {}


def without_added_terms(loss: Tensor, sums: Mapping[str, Tensor]) -> Tensor:
    """The loss of records: of what is minimised all but the added terms, so that curves compare."""
    return loss.detach() - sum(sums[name] for name in ADDED_TERMS if name in sums)


def per_row(loss: Tensor, targets: Tensor) -> Tensor:
    """Sum of a loss of rows [B], each weighing as much as its row has targets [B, S].

    So that a second loss beside that of the tokens does not depend on how rows were divided into micro-batches.
    """
    return (loss.float() * (targets != NOT_A_TARGET).sum(dim=1)).sum()


def mean_where(values: Tensor, where: Tensor) -> Tensor:
    """Row means [B] of values [B, S] at the places that are true; 0 for a row without any."""
    return torch.where(where, values, 0.0).sum(dim=1) / where.sum(dim=1).clamp(min=1)


def pair_loss(margin: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Sum of -log sigmoid(margin) over the pairs [B] whose target is not NOT_A_TARGET, fp32, their number, and
    `correct`: how many margins are above 0."""
    pairs = targets != NOT_A_TARGET
    loss = torch.where(pairs, -F.logsigmoid(margin.float()), 0.0).sum()
    return loss, pairs.sum(), {"correct": ((margin > 0) & pairs).sum().detach()}
