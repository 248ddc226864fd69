"""Disentangled attention: content and relative position of a token are told apart in the scores (DeBERTa, He et al.
2021, section 3.1).

Between a query at place i and a key at place j, with matrices for queries and keys, and rows P of a table:

    query(x_i) . key(x_j)  +  query(x_i) . key(P[i - j])  +  key(x_j) . query(P[i - j])

over the square root of head size times the number of terms. All layers read one table. Nothing else tells positions.
Its rows are not dropped out in training: they serve all samples of a batch, and here a mask is of one sample.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kernels import Dense
from trainer.config.disentangled import rows_used, score_terms, table_rows
from trainer.config.model import ModelConfig
from trainer.models.attention import Attention, Context
from trainer.models.initialization import InitialStds
from trainer.models.norms import norm
from trainer.models.parts import Embedding, Linear
from trainer.models.products import joined


class RelativePositions(nn.Module):
    """The table of relative positions: one half for keys behind the query, the other for itself and those before it."""

    def __init__(self, config: ModelConfig, std: InitialStds) -> None:
        super().__init__()
        self.config = config
        self.table = Embedding(table_rows(config), config.width, std=std.table)
        self.norm = norm(config) if config.relative_norm else None

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """The rows [R, width] that `length` tokens use, and which of them each query has for each key, int64 [S, S]."""
        first, count = rows_used(self.config, length)
        device, half = self.table.weight.device, table_rows(self.config) // 2
        rows = self.table(torch.arange(first, first + count, device=device))
        places = torch.arange(length, device=device)
        relative = places[:, None] - places[None, :]
        bucket = distance_buckets(length, self.config.relative_buckets, self.config.relative_distance, device)
        which = (bucket[relative.abs()] * relative.sign() + half).clamp(0, 2 * half - 1) - first
        return rows if self.norm is None else self.norm(rows), which


def distance_buckets(length: int, buckets: int | None, farthest: int, device: torch.device) -> Tensor:
    """int64 [length], the bucket of each distance: half of the buckets hold one distance each, the others grow with its
    logarithm up to `farthest`. Without buckets the distance itself."""
    distance = torch.arange(length, device=device)
    if buckets is None:
        return distance
    exact = buckets // 2
    growth = torch.log(torch.tensor((farthest - 1) / exact, device=device))
    far = torch.ceil(torch.log(distance.clamp(min=exact) / exact) / growth * (exact - 1)).long() + exact
    return torch.where(distance <= exact, distance, far)


class DisentangledAttention(Attention):
    """Attention with the scores of content with position and of position with content in a bias."""

    def __init__(self, config: ModelConfig, std: InitialStds, *, local: bool = False, turns: bool = True) -> None:
        super().__init__(config, std, local=local, turns=turns)
        terms, inner, bias = score_terms(config), self.heads * self.channels, config.bias or config.qkv_bias
        self.by_key, self.by_query = "c2p" in terms, "p2c" in terms
        self.position_key = self.position_query = None
        if self.by_key and not config.relative_shared:
            self.position_key = Linear(config.width, inner, bias=bias, std=std.key)
        if self.by_query and not config.relative_shared:
            self.position_query = Linear(config.width, inner, bias=bias, std=std.query)
        self.of_terms = (config.score_scale or self.channels**-0.5) * (1 + len(terms)) ** -0.5
        self.scale = self.of_terms

    position_key: Linear | None
    position_query: Linear | None

    @property
    def reads(self) -> tuple[Linear, ...]:
        return (*super().reads, *(one for one in (self.position_key, self.position_query) if one is not None))

    def forward(self, x: Tensor, context: Context, keys_from: Tensor | None = None) -> Tensor:
        query, key, value = self.projected(x, keys_from)
        assert context.relative is not None
        rows, which = context.relative
        own = [self.position_key or self.key] if self.by_key else []
        own += [self.position_query or self.query] if self.by_query else []
        positions = list(joined(rows, own))
        of_keys = self._heads(positions[0], self.key_norm) if self.by_key else None
        of_queries = self._heads(positions[-1], self.query_norm) if self.by_query else None

        def bias(query: Tensor, key: Tensor, heads: slice) -> Dense:
            scores = []
            if of_keys is not None:
                scores.append(_by_position(query, of_keys[..., heads, :], which))
            if of_queries is not None:
                scores.append(_by_position(key, of_queries[..., heads, :], which.T).transpose(-1, -2))
            return Dense((scores[0] if len(scores) == 1 else scores[0] + scores[1]) * self.of_terms)

        return self.mix(query, key, value, context.mask(self.local), context, bias)


def _by_position(content: Tensor, positions: Tensor, which: Tensor) -> Tensor:
    """Products of content [B, S, H, D] with the rows of positions [R, H, D] that `which` [S, other places] names:
    [B, H, S, other places]."""
    products = torch.einsum("bihd,rhd->bhir", content, positions)
    chosen: Tensor = _Gathered.apply(products, which.expand(*products.shape[:2], *which.shape))
    return chosen


class _Gathered(torch.autograd.Function):
    """`values.gather(-1, index)`, which does not keep the values for its backward pass, and adds up in fp32 there: many
    far tokens share a row."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.columns = values.shape[-1]
        return values.gather(-1, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        total = wide.new_zeros((*gradient.shape[:-1], ctx.columns)).scatter_add(-1, index, wide)
        return total.to(gradient.dtype), None
