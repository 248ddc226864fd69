"""FLOPs of the grouped product for `torch.utils.flop_counter`: two for each number of a row and each output.

To be imported where FLOPs are counted: the counter brings Triton with it, which the kernels themselves wait with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from kernels.experts import op as op  # defines the operators


@register_flop_formula(torch.ops.isoflop.grouped_linear, get_raw=True)
def _flop(x: Tensor, weights: Tensor, ends: Tensor, *_: Any, **__: Any) -> int:
    return 2 * _rows(x, ends) * weights.shape[1] * weights.shape[2]


@register_flop_formula(torch.ops.isoflop.grouped_linear_backward, get_raw=True)
def _flop_of_gradients(
    dout: Tensor, x: Tensor, weights: Tensor, ends: Tensor, of_x: bool, of_weights: bool, *_: Any, **__: Any
) -> int:
    return 2 * _rows(x, ends) * weights.shape[1] * weights.shape[2] * (of_x + of_weights)


def _rows(x: Tensor, ends: Tensor) -> int:
    """Rows that belong to a group."""
    if len(ends) == 0:
        return 0
    return len(x) if ends.is_meta else int(ends[-1])
