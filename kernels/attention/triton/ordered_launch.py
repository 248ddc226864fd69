"""What the backward pass in one walk is launched with."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.attention.triton.launches import Call
from kernels.attention.triton.operands import Operand, Statistics
from kernels.attention.triton.ordered import attention_ordered
from kernels.attention.triton.segments import hull
from kernels.backends import log_choice
from kernels.configs import Tile, architecture, block_dim, kind_of, ordered_tile


def tile_of(c: Call) -> Tile | None:
    """Its tile, or None where it takes two passes, which is said once."""
    arch = architecture(c.q.device)
    kind = kind_of(c.q.dtype, c.switches)
    tile = ordered_tile(arch, c.head_dim, kind)
    if tile is None:
        what = f"no ordered tile for {arch}, head size {c.head_dim}, {kind}"
        log_choice("attention's backward pass", "two_pass", c.q.device, what)
    return tile


def launch_ordered(
    c: Call, tile: Tile, lse: Tensor, delta: Tensor, dout: Tensor
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """dq, with a sink the row sums of dS over the keys (float32 [B, H, Sq]), dk and dv.

    Beside them it holds dQ in float32, in whole tiles, and a counter for each head and tile of keys.
    """
    device = c.q.device
    dq, dk, dv = (torch.empty(one.shape, dtype=one.dtype, device=device) for one in (c.q, c.k, c.v))
    padded, k_tiles = -(-c.q_len // tile.block_m) * tile.block_m, -(-c.k_len // tile.block_n)
    tensors = (c.q, c.k, c.v, dout, dk, dv)
    shape = (c.batch, c.heads, padded)
    total = torch.zeros((*shape, block_dim(c.head_dim)), dtype=torch.float32, device=device)
    rest = None if c.sink is None else torch.zeros(shape, dtype=torch.float32, device=device)
    counters = torch.zeros(1 + c.batch * c.heads * k_tiles, dtype=torch.int32, device=device)
    c.launch(
        attention_ordered,
        c.batch * c.kv_heads * k_tiles,
        (
            *(Operand(one, *one.stride()) for one in tensors), total, rest, counters,
            None if c.k_reach is None else hull(c.k_reach), Statistics(lse, delta, None), c.bias, c.mask(c.k_reach),
            c.dropout, c.scaling, c.batch, *c.lengths,
        ),
        tile,
        tensors,
    )  # fmt: skip
    torch.mul(total[:, :, : c.q_len, : c.head_dim].transpose(1, 2), c.scaling.scale, out=dq)
    return dq, None if rest is None else rest[:, :, : c.q_len], dk, dv
