"""Products of rows with the matrix of their own expert."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def grouped_linear(x: Tensor, weights: Tensor, ends: Tensor, *, backend: str = "auto") -> Tensor:
    """x [T, in], of which rows ends[e - 1] .. ends[e] - 1 belong to expert e, by weights [E, out, in]: [T, out]."""
    begin, parts = 0, []
    for matrix, end in zip(weights.unbind(), ends.tolist(), strict=True):
        parts.append(F.linear(x[begin:end], matrix))
        begin = end
    return torch.cat(parts)
