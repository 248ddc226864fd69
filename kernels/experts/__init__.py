"""The grouped product of a mixture of experts: rows sorted by their expert, each group times the matrix of its own.

Row t of x belongs to group e where ends[e - 1] <= t < ends[e] (the first group begins at 0), and gives
x[t] weights[e]^T. A group may be empty. Rows from ends[-1] on belong to none: they give 0 and have no gradient. So no
group is padded, and nothing is dropped to make groups equal (Gale et al. 2022, MegaBlocks, 2211.15841).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from kernels import choice
from kernels.backends import autocast_dtype, check_backend, log_choice
from kernels.checks import check_float, check_integers
from kernels.errors import refuse, shape
from kernels.experts.op import grouped_linear_op, native
from kernels.experts.reference import reference_grouped_linear


def grouped_linear(x: Tensor, weights: Tensor, ends: Tensor, backend: str = "auto") -> Tensor:
    """[T, out], of the dtype of x: x [T, in] by groups times weights [E, out, in], differentiable in both.

    ends: integers [E], where the groups end, not falling, at most T. Under autocast x and weights are cast to its dtype
    first, as in a linear layer. backend: "torch" (`torch.nn.functional.grouped_mm` where it works, see `native`, else a
    product for each group), "reference" (a product for each group in plain operations), or "auto", which is torch.
    """
    check_float("grouped_linear", "x", x)
    check_float("grouped_linear", "weights", weights, x.device)
    x, weights = x.to(autocast_dtype(x)), weights.to(autocast_dtype(weights))
    if x.dim() != 2:
        raise refuse("grouped_linear", "x", f"of shape {shape(x)}", "[rows, inputs]")
    if weights.dim() != 3 or weights.shape[2] != x.shape[1] or weights.dtype != x.dtype:
        wanted = f"{x.dtype} [groups, outputs, {x.shape[1]}], by x"
        raise refuse("grouped_linear", "weights", f"{weights.dtype} {shape(weights)}", wanted)
    if check_integers("grouped_linear", "ends", ends, x.device).shape != weights.shape[:1]:
        raise refuse("grouped_linear", "ends", f"of shape {shape(ends)}", f"[{len(weights)}], one for each of weights")
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_ends(ends, len(x))
    chosen = choice.experts_backend(check_backend("grouped_linear", backend, choice.EXPERTS)).backend
    if backend == "auto":
        how = "torch's grouped product" if native(x, weights) else "a product for each group"
        log_choice("grouped_linear", chosen, x.device, how)
    if chosen == "reference":
        return reference_grouped_linear(x, weights, ends)
    return grouped_linear_op(x, weights, ends.to(torch.int32))


def _check_ends(ends: Tensor, rows: int) -> None:
    """Raise KernelInputError where they are no ends. By value, which on a GPU would wait for it."""
    values = ends.tolist()
    if values and (values[0] < 0 or values[-1] > rows or any(a > b for a, b in itertools.pairwise(values))):
        raise refuse("grouped_linear", "ends", str(values[:9]), f"numbers from 0 to {rows}, the rows of x, not falling")
