"""Dropout by counter: whether a probability is kept is a function of (seed, batch row and head, row, column) alone."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 7  # the fewest with no known statistical weakness (Salmon et al., SC 2011, table 2)
_LOW = 0xFFFFFFFF


def _multiply(constant: int, value: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a 32 x 32 bit product, of non-negative int64 below 2^32.

    The signed product wraps around at 64 bits, which leaves all its bits right; the shift's sign extension is masked.
    """
    product = value * constant
    return (product >> 32) & _LOW, product & _LOW


@torch.library.custom_op("isoflop::philox", mutates_args=())  # whole: compilers take overflows of int64 for impossible
def philox(seed: Tensor, c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox-4x32 (Salmon et al., SC 2011): four 32-bit words as int64 from four counters and a 64-bit seed."""
    k0, k1 = seed & _LOW, (seed >> 32) & _LOW
    for _ in range(ROUNDS):
        high0, low0 = _multiply(0xD2511F53, c0)
        high2, low2 = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return c0, c1, c2, c3


@philox.register_fake
def _(seed: Tensor, *counters: Tensor) -> tuple[Tensor, ...]:
    whole = torch.broadcast_shapes(seed.shape, *(one.shape for one in counters))
    return tuple(counters[0].new_empty(whole) for _ in range(4))


def threshold(dropout_p: float) -> int:
    """A probability is kept if its 32-bit word is at or above this."""
    return min(round(dropout_p * 2**32), _LOW)


def keep_mask(
    seed: int | Tensor,
    dropout_p: float,
    batch: int,
    heads: int,
    q_len: int,
    k_len: int,
    device: torch.device,
    rows: Tensor | None = None,
    places: tuple[int, int] = (0, 0),
) -> Tensor:
    """bool [B, H, Sq, Sk]: counter (column // 4, row, n mod 2^32, n // 2^32) gives a word to each of four columns. n is
    rows [B] * H + head; rows are 0 to B - 1 where they are not given. places: row and column of the first query and the
    first key."""
    key = seed.reshape(()).to(device, torch.int64) if isinstance(seed, Tensor) else torch.tensor(seed, device=device)
    first_row, first_column = places
    group = torch.arange(first_column // 4, (first_column + k_len + 3) // 4, device=device)[None, None, None, :]
    row = torch.arange(first_row, first_row + q_len, device=device)[None, None, :, None]
    rows = torch.arange(batch, device=device) if rows is None else rows
    head = (rows[:, None] * heads + torch.arange(heads, device=device))[:, :, None, None]
    words = torch.stack(philox(key, group, row, head & _LOW, (head >> 32) & _LOW), dim=-1)
    return words.flatten(-2)[..., first_column % 4 :][..., :k_len] >= threshold(dropout_p)
