"""Cross-entropy and its gradient in plain PyTorch, for one chunk of logits at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.loss.reference import LossOptions


def eager_loss(
    logits: Tensor,
    targets: Tensor,
    options: LossOptions,
    losses: Tensor,
    gradient: Tensor | None,
    upstream: Tensor | None = None,
) -> None:
    """As `kernels.loss.triton.triton_loss`."""
    smoothing, softcap, classes = options.label_smoothing, options.softcap, logits.shape[1]
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if softcap > 0.0:
        scores = (scores / softcap).tanh_().mul_(softcap)  # one copy of the logits, and none of that
    counts = targets != options.ignore_index
    places = torch.where(counts, targets, 0).long().unsqueeze(1)
    lse = torch.logsumexp(scores, dim=-1)
    plain = lse - scores.gather(1, places).squeeze(1)
    squared = options.z_loss * lse.square() if options.z_loss else torch.zeros_like(lse)
    total = (1.0 - smoothing) * plain + squared
    if smoothing:  # a mean of logits that may be -inf: 0 of it is none of it
        total = total + smoothing * (lse - scores.mean(dim=-1))
    losses.copy_(torch.stack((total, plain, squared)).masked_fill_(~counts, 0.0))
    if gradient is None:
        return
    lse = torch.where(counts, lse, math.inf).unsqueeze(1)  # no probability where a row does not count
    d = (scores - lse).exp_()
    if options.z_loss:
        d.mul_(torch.where(counts.unsqueeze(1), 1.0 + 2.0 * options.z_loss * lse, 0.0))
    if smoothing:
        d -= smoothing / classes
    d.scatter_add_(1, places, torch.full_like(places, -(1.0 - smoothing), dtype=d.dtype))
    if softcap > 0.0:  # d tanh = 1 - tanh^2
        d *= scores.div_(softcap).square_().neg_().add_(1.0)
    factor = counts.to(scores.dtype)
    d.mul_((factor if upstream is None else factor * upstream).unsqueeze(1))
    gradient[:, :classes].copy_(d)
    gradient[:, classes:].zero_()
