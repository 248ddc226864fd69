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

    logits: [N, V]; targets: int [N]. Arithmetic in `compute_dtype`, by default at least float32.
    """
    scores = logits.to(compute_dtype or torch.promote_types(logits.dtype, torch.float32))
    if options.softcap > 0.0:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    counts = targets != options.ignore_index
    lse = torch.logsumexp(scores, dim=-1)
    chosen = scores.gather(1, torch.where(counts, targets, 0).long().unsqueeze(1)).squeeze(1)
    plain = lse - chosen
    smooth = lse - scores.mean(dim=-1)
    squared = options.z_loss * lse.square()
    total = (1.0 - options.label_smoothing) * plain + options.label_smoothing * smooth + squared
    none = torch.zeros_like(total)
    return tuple(torch.where(counts, value, none).sum() for value in (total, plain, squared))  # type: ignore[return-value]
