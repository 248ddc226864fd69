"""Cross-entropy as it is defined, with every option, from whole logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossOptions:
    """ignore_index: a target that does not count. label_smoothing e: (1 - e) of the target, e spread over all classes
    (Szegedy et al., arXiv 1512.00567). z_loss: coefficient of the squared log-sum-exp (PaLM, arXiv 2204.02311, section
    5). softcap: logits become softcap * tanh(logits / softcap), 0 for off (Gemma 2, arXiv 2408.00118)."""

    ignore_index: int = -100
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float = 0.0


def reference_loss(
    logits: Tensor, targets: Tensor, options: LossOptions, compute_dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(total, cross-entropy of the targets alone, z term), each summed over the targets that count.

    logits: [N, V]; targets: int [N]. Arithmetic in `compute_dtype`, by default at least float32. As PyTorch has it:
    a logit of -inf has no probability and no gradient; where it is the target, or shares in smoothing, the loss is inf;
    a row of nothing else gives nan.
    """
    counts = targets != options.ignore_index
    scores = logits.to(compute_dtype or torch.promote_types(logits.dtype, torch.float32))
    scores = torch.where(counts.unsqueeze(1), scores, 0.0)  # what does not count may hold anything
    if options.softcap > 0.0:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    lse = torch.logsumexp(scores, dim=-1)
    chosen = scores.gather(1, torch.where(counts, targets, 0).long().unsqueeze(1)).squeeze(1)
    plain = lse - chosen
    squared = options.z_loss * lse.square() if options.z_loss else torch.zeros_like(lse)
    total = (1.0 - options.label_smoothing) * plain + squared
    if options.label_smoothing:  # a mean of logits that may be -inf: 0 of it is none of it
        total = total + options.label_smoothing * (lse - scores.mean(dim=-1))
    none = torch.zeros_like(total)
    return tuple(torch.where(counts, value, none).sum() for value in (total, plain, squared))  # type: ignore[return-value]
