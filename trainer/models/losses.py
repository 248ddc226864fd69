"""Sums of losses in nats, in fp32. The caller divides, by counts that are global."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.utils.targets import NOT_A_TARGET


def token_loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropy of logits [B, S, V] over the targets [B, S] that are not NOT_A_TARGET, and their count.

    smoothing: share of every target that is spread evenly over the vocabulary (Szegedy et al. 2016, section 7).
    """
    flat, wanted = logits.flatten(0, 1).float(), targets.flatten()
    loss = F.cross_entropy(flat, wanted, ignore_index=NOT_A_TARGET, reduction="sum", label_smoothing=smoothing)
    return loss, (targets != NOT_A_TARGET).sum()


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
