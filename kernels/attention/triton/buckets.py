"""T5's bucket table over relative positions: what depends on neither lengths nor layers, made once for a pass.

From some distance on a side of the diagonal has one bucket, so a short vector around the diagonal tells the bucket of
every pair: positions outside of it stand at its ends.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.attention.masks import t5_buckets
from kernels.attention.spec import T5Bias

LOG2E = 1.4426950408889634
MARGIN = 256  # what the vector goes on beyond the last change: two tiles


def far_from(bias: T5Bias) -> int:
    """A distance, a multiple of 8, from which on either side of the table has its last bucket.

    That begins at exact (max_distance / exact)^(1 - 1 / n), where n is the number of logarithmic buckets (Raffel et
    al., section 2.1); two more positions, because a GPU's logarithm in float32 may round otherwise than a CPU's.
    (Without `bidirectional` all keys after the query have bucket 0, of which nothing is made here.)
    """
    one_side = bias.num_buckets // 2 if bias.bidirectional else bias.num_buckets
    exact = one_side // 2
    begins = exact * (bias.max_distance / exact) ** (1 - 1 / (one_side - exact))
    return -(-(math.ceil(begins) + 2) // 8) * 8


def relative_buckets(bias: T5Bias, device: torch.device) -> Tensor:
    """int32 [2 n]: the bucket of each relative position from -n to n - 1, n = `far_from` + MARGIN."""
    most = far_from(bias) + MARGIN
    places = torch.arange(-most, most, device=device)
    return t5_buckets(places, bias.bidirectional, bias.num_buckets, bias.max_distance).to(torch.int32)


def bucket_values(bias: T5Bias, device: torch.device) -> tuple[Tensor, Tensor]:
    """(`relative_buckets`, float32 [H, 2 n]: the table's value at each, in log2 units, without a gradient)."""
    buckets = relative_buckets(bias, device)
    table = bias.table.detach().float() * LOG2E
    return buckets, table.t().index_select(1, buckets)
