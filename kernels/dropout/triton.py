"""Dropout in one kernel that makes its mask as it goes. Importing this imports Triton."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.backends import on_device
from kernels.dropout import reference
from kernels.dropout.reference import LANES, keep_scale

ROUNDS = tl.constexpr(reference.ROUNDS)
MULTIPLIER_0, MULTIPLIER_1 = (tl.constexpr(number) for number in reference.MULTIPLIERS)
WEYL_0, WEYL_1 = (tl.constexpr(number) for number in reference.WEYL)
GROUPS = 64  # counters of a program, of 16 numbers each


@triton.jit
def philox(k0, k1, c0):
    """The four words of Philox-4x64 under the key (k0, k1) for the counters (c0, 0, 0, 0); all uint64."""
    c1 = c0 * 0
    c2 = c1
    c3 = c1
    m0 = tl.full(c0.shape, MULTIPLIER_0, tl.uint64)
    m1 = tl.full(c0.shape, MULTIPLIER_1, tl.uint64)
    for _ in tl.static_range(ROUNDS):
        high0 = tl.umulhi(c0, m0)
        high2 = tl.umulhi(c2, m1)
        low0 = c0 * m0
        low2 = c2 * m1
        c0 = high2 ^ c1 ^ k0
        c1 = low2
        c2 = high0 ^ c3 ^ k1
        c3 = low0
        k0 += WEYL_0
        k1 += WEYL_1
    return c0, c1, c2, c3


@triton.jit
def dropout_kernel(x_ptr, out_ptr, keys_ptr, numbers, start, level, scale, GROUPS: tl.constexpr):
    """Grid: (rows, tiles of GROUPS x 16 numbers). keys: int64 [rows, 2]. x and out are contiguous; each of their rows
    begins with number `start`."""
    row = tl.program_id(0).to(tl.int64)
    first = start // 16 + tl.program_id(1) * GROUPS
    zero = tl.zeros([GROUPS], dtype=tl.uint64)
    k0 = zero + tl.load(keys_ptr + 2 * row).to(tl.uint64)
    k1 = zero + tl.load(keys_ptr + 2 * row + 1).to(tl.uint64)
    w0, w1, w2, w3 = philox(k0, k1, (first + 1 + tl.arange(0, GROUPS)).to(tl.uint64))
    words = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))
    lane = tl.arange(0, 4)
    bits = ((words[:, None] >> (16 * lane[None, :]).to(tl.uint64)) & 0xFFFF).to(tl.int32)
    number = first.to(tl.int64) * 16 + 4 * tl.arange(0, 4 * GROUPS)[:, None] + lane[None, :] - start
    inside = (number >= 0) & (number < numbers)
    x = tl.load(x_ptr + row * numbers + number, mask=inside, other=0.0).to(tl.float32)
    out = tl.where(bits >= level, x * scale, 0.0)
    tl.store(out_ptr + row * numbers + number, out.to(out_ptr.dtype.element_ty), mask=inside)


def triton_dropout(x: Tensor, rows: Tensor, seed: int, level: int, start: int = 0) -> Tensor:
    """x [B, ...] at this level; rows int64 [B]; each row of x begins with number `start`."""
    given = x.contiguous()
    out = torch.empty_like(given)
    numbers = given[0].numel()
    keys = torch.stack((torch.full_like(rows, seed), rows), dim=1)
    with on_device(x):
        dropout_kernel[(len(given), triton.cdiv(start % LANES + numbers, LANES * GROUPS))](
            given, out, keys, numbers, start, level, keep_scale(level), GROUPS=GROUPS
        )
    return out
