"""Dropout by counter (Srivastava et al. 2014; the generator: Salmon et al., SC 2011).

What is kept is a function of a seed, of the number that stands for a row, and of the place within the row; of nothing
else. So a mask does not depend on which rows lie side by side, on the order of calls, nor on the backend.

Philox-4x64 with 10 rounds under the key (seed, row) turns counter (1 + i // 16, 0, 0, 0) into 256 bits; number i of the
row takes the (i mod 16)-th 16 of them, the lowest of the first word first, and is kept if they are at least
`level(p)` = round(p 2^16). What is kept is divided by its true probability, 1 - level(p) / 2^16.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.backends import choose
from kernels.checks import check_float, check_integers, check_number, check_whole
from kernels.dropout.op import dropout_op
from kernels.dropout.reference import level, reference_dropout
from kernels.errors import refuse, shape


def dropout(
    x: Tensor, p: float, *, seed: int, rows: Tensor | None = None, start: int = 0, backend: str = "auto"
) -> Tensor:
    """x with each number 0 at probability p and else divided by 1 - p, differentiable in x.

    x: [B, ...], any float dtype; arithmetic is at least float32. rows: integers [B] that name the rows, by default 0 to
    B - 1. seed: an integer of 64 bits, another one for every place of use. start: the number that each row of x begins
    with, where x is a part of longer rows. p is rounded to a multiple of 2^-16. The backward pass makes the mask again;
    none is kept.
    """
    check_float("dropout", "x", x)
    if x.dim() < 1:
        raise refuse("dropout", "x", "of shape []", "[B, ...]")
    p = check_number("dropout", "p", p, "a probability in [0, 1)", low=0.0, below=1.0)
    wanted = "an integer of 64 bits"
    if check_whole("dropout", "seed", seed, wanted, low=-(2**63)) >= 2**63:
        raise refuse("dropout", "seed", repr(seed), wanted)
    check_whole("dropout", "start", start, "the number that a row begins with", low=0)
    if rows is None:
        rows = torch.arange(len(x), device=x.device)
    elif check_integers("dropout", "rows", rows, x.device).shape != x.shape[:1]:
        raise refuse("dropout", "rows", f"of shape {shape(rows)}", f"[{len(x)}], a number for each row of x")
    chosen = choose("dropout", backend, x.device, x.dtype)
    if level(p) == 0:
        return x
    if chosen == "reference":
        return reference_dropout(x, rows, seed, level(p), start)
    return dropout_op(x, rows.long(), seed, level(p), start, chosen)
