"""Cross-entropy and its gradient in plain PyTorch, for one chunk of logits at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.loss.reference import LossOptions


def eager_loss(
    logits: Tensor, targets: Tensor, options: LossOptions, gradient: Tensor | None, upstream: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """As `kernels.loss.triton.triton_loss`."""
    smoothing, softcap = options.label_smoothing, options.softcap
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if softcap > 0.0:
        scores = (scores / softcap).tanh_().mul_(softcap)  # one copy of the logits, and none of that
    counts = targets != options.ignore_index
    places = torch.where(counts, targets, 0).long().unsqueeze(1)
    lse = torch.logsumexp(scores, dim=-1)
    plain = lse - scores.gather(1, places).squeeze(1)
    squared = options.z_loss * lse.square()
    total = (1.0 - smoothing) * plain + squared
    if smoothing:
        total = total + smoothing * (lse - scores.mean(dim=-1))
    sums = [(value * counts).sum() for value in (total, plain, squared)]
    if gradient is not None:
        factor = counts.to(scores.dtype)
        if upstream is not None:
            factor = factor * upstream
        d = (scores - lse.unsqueeze(1)).exp_().mul_((1.0 + 2.0 * options.z_loss * lse).unsqueeze(1))
        if smoothing:
            d -= smoothing / logits.shape[1]
        d.scatter_add_(1, places, torch.full_like(places, -(1.0 - smoothing), dtype=d.dtype))
        if softcap > 0.0:  # d tanh = 1 - tanh^2
            d *= scores.div_(softcap).square_().neg_().add_(1.0)
        gradient.copy_(d.mul_(factor.unsqueeze(1)))
    return sums[0], sums[1], sums[2]
