"""Dropout as a PyTorch operator, so that compilers take it whole. Its gradient is itself, of the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.dropout.reference import LANES, keep_scale, reference_dropout


@torch.library.custom_op("isoflop::dropout", mutates_args=())
def dropout_op(x: Tensor, rows: Tensor, seed: int, level: int, start: int, backend: str) -> Tensor:
    """x [B, ...] at this level; rows int64 [B]. start: the number that each row begins with. backend: "triton" or
    "torch"."""
    if x.numel() == 0:
        return torch.empty_like(x)
    if backend == "triton":
        from kernels.dropout.triton import triton_dropout

        return triton_dropout(x, rows, seed, level, start)
    on_cpu = x.device.type == "cpu"
    return (_by_numpy if on_cpu else reference_dropout)(x, rows, seed, level, start)


def _by_numpy(x: Tensor, rows: Tensor, seed: int, level: int, start: int) -> Tensor:
    """NumPy's C generator makes the words of one row after the other, which stay in the cache until they are read."""
    given = x.reshape(len(x), -1)
    made = torch.empty(given.shape, dtype=x.dtype)
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    numbers, scale, word = given.shape[1], keep_scale(level), 2**64 - 1
    counter, before = divmod(start, LANES)  # NumPy adds one to the counter before it makes words
    for place, row in enumerate(rows.tolist()):
        key = np.array((seed & word, row & word), np.uint64)
        bits = (
            np.random.Philox(key=key, counter=counter)
            .random_raw(-(-(before + numbers) // 4))
            .astype("<u8", copy=False)
            .view("<u2")
        )
        keep = torch.from_numpy((bits[before : before + numbers] >= level).view(np.int8))
        ones = keep.to(whole).neg_()  # all bits of what is kept: cheaper than to fill by a mask
        torch.mul(given[place], scale, out=made[place]).view(whole).bitwise_and_(ones)
    return made.view(x.shape)


@dropout_op.register_fake
def _(x: Tensor, rows: Tensor, seed: int, level: int, start: int, backend: str) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.numbers = inputs[2:]


def _backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    (rows,) = ctx.saved_tensors
    return (dropout_op(dout, rows, *ctx.numbers), None, None, None, None, None)


dropout_op.register_autograd(_backward, setup_context=_setup_context)
