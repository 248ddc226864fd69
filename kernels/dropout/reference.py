"""The definition of dropout in PyTorch's int64 operations: the oracle of the other backends, and PyTorch's on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)  # what the two words of the key grow by in each round
LANES = 16  # numbers that one counter decides
_LOW = 0xFFFFFFFF


def level(p: float) -> int:
    """A number is kept if its 16 bits are at least this."""
    return min(round(p * 2**16), 2**16 - 1)


def keep_scale(at: int) -> float:
    """What is kept is multiplied by this."""
    return 2**16 / (2**16 - at)


def signed(word: int) -> int:
    """The int64 with the same 64 bits."""
    word &= 2**64 - 1
    return word - 2**64 if word >> 63 else word


def _upper(value: Tensor) -> Tensor:
    """The upper 32 bits of a word, whose sign bit is one like all others."""
    return (value >> 32) & _LOW


def _multiply(value: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    """High and low 64 bits of the product of two unsigned words, which int64 holds: it wraps around as they do."""
    high, low = constant >> 32, constant & _LOW
    a, b = _upper(value), value & _LOW
    middle = a * low + _upper(b * low)
    cross = b * high + (middle & _LOW)
    return a * high + _upper(middle) + _upper(cross), value * signed(constant)


def philox(seed: int, rows: Tensor, groups: Tensor) -> Tensor:
    """int64 [B, groups, 4]: the words of Philox-4x64 for keys (seed, rows [B]) and counters (1 + groups, 0, 0, 0)."""
    c0 = (groups + 1).expand(len(rows), -1)
    c1, c2, c3 = (torch.zeros_like(c0) for _ in range(3))
    for number in range(ROUNDS):
        k0 = signed(seed + number * WEYL[0])
        k1 = rows[:, None] + signed(number * WEYL[1])
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high2, low2 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
    return torch.stack((c0, c1, c2, c3), dim=-1)


@torch.library.custom_op("isoflop::dropout_keep_mask", mutates_args=())  # as isoflop::philox
def keep_mask(seed: int, rows: Tensor, numbers: int, at: int, start: int = 0) -> Tensor:
    """bool [B, numbers]: which of the numbers from `start` on of each row are kept at this level."""
    groups = torch.arange(start // LANES, -(-(start + numbers) // LANES), device=rows.device)
    words = philox(seed, rows.long(), groups)
    lanes = (words[..., None] >> torch.arange(0, 64, 16, device=rows.device)) & 0xFFFF
    return lanes.flatten(1)[:, start % LANES :][:, :numbers] >= at


@keep_mask.register_fake
def _(seed: int, rows: Tensor, numbers: int, at: int, start: int = 0) -> Tensor:
    return rows.new_empty((len(rows), numbers), dtype=torch.bool)


def reference_dropout(x: Tensor, rows: Tensor, seed: int, at: int, start: int = 0) -> Tensor:
    """x [B, ...] at this level, differentiable; each row begins with number `start`."""
    keep = keep_mask(seed, rows, x[0].numel() if len(x) else 0, at, start).view(x.shape)
    return torch.where(keep, x * keep_scale(at), 0.0)
