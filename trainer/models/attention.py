"""Attention over the residual stream, to itself or to another sequence. The kernels apply masks and biases."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kernels import Dense, PreparedMask, rotary
from trainer.config.model import ModelConfig
from trainer.models.cache import LayerCache
from trainer.models.dropout import Dropout, Site, dropped
from trainer.models.initialization import InitialStds
from trainer.models.norms import qk_norm
from trainer.models.parts import Linear
from trainer.models.products import joined
from trainer.models.routing import Routing
from trainer.models.sequence import WHOLE, BiasOfHeads, Sequences

Rotary = tuple[Tensor, Tensor]  # cosine and sine [B, S, channels / 2]


class Context(NamedTuple):
    """What all blocks of one forward pass share. Pairs are for global and for local (windowed) layers."""

    masks: tuple[PreparedMask, PreparedMask | None]  # who sees whom
    rotary: tuple[Rotary, Rotary] | None
    backend: str  # of kernels.attention
    source: Tensor | None = None  # hidden states of the encoder, [B, source length, width]
    source_mask: PreparedMask | None = None
    distances: Tensor | None = None  # sinusoids of the relative positions, [keys + queries, width] (XLNet)
    other_type: Tensor | None = None  # [B, queries, keys], whether a key is of another token type (XLNet)
    relative: tuple[Tensor, Tensor] | None = None  # rows of relative positions, and which a pair has (DeBERTa)
    memory: LayerCache | None = None  # of this block, where text is written token by token
    dropout: Dropout | None = None  # at this block's depth, in training
    real: Tensor | None = None  # bool [B, S], what is no padding, where layers have experts; None: all
    routing: Routing | None = None  # of this forward pass, where its routers are watched
    recompute_scores: bool = False  # in the backward pass; else they are kept, where the backend has them

    def mask(self, local: bool) -> PreparedMask:
        return self.masks[1] if local and self.masks[1] is not None else self.masks[0]


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) with grouped queries (Ainslie et al. 2023), capped scores (Gemma 2,
    2024) and sinks (Xiao et al. 2024; one learned logit a head in gpt-oss, 2025)."""

    rotary_backend = "auto"  # backend of rotary positions
    backward_walk = "two_pass"  # of Triton's backward pass
    site: Site = "attention"  # of its dropout
    sequences: Sequences = WHOLE  # how their positions are divided over ranks
    replaced = 0  # of queries, keys and values, how many others take the place of: so the rest is kept by itself

    def __init__(self, config: ModelConfig, std: InitialStds, *, local: bool = False, turns: bool = True) -> None:
        """local: sees its window alone; turns: queries and keys turn by their positions, where those are rotary."""
        super().__init__()
        self.turns = turns
        self.heads, self.kv_heads, self.channels = config.heads, config.key_heads, config.head_channels
        self.scale, self.local, self.qk_norm = config.score_scale, local, config.qk_norm
        self.softcap = config.score_softcap or 0.0
        if (turns and config.position == "rotary") or self.qk_norm != "none":
            self.replaced = 2
        self.sinks = nn.Parameter(torch.empty(self.heads)) if config.sinks else None  # logits, which begin at 0
        queries, keys, width = self.heads * self.channels, self.kv_heads * self.channels, config.width
        bias = (config.bias and not config.qkv_unbiased) or config.qkv_bias
        self.query = Linear(width, queries, bias=bias, std=std.query)
        self.key = Linear(width, keys, bias=bias, std=std.key)
        self.value = Linear(width, keys, bias=bias, std=std.key)
        self.output = Linear(queries, width, bias=config.bias, std=std.attention_output)
        self.query_norm = self.key_norm = None
        if self.qk_norm != "none":
            self.query_norm, self.key_norm = (qk_norm(config, heads) for heads in (self.heads, self.kv_heads))

    query_norm: nn.Module | None
    key_norm: nn.Module | None

    @property
    def reads(self) -> tuple[Linear, ...]:
        """Layers whose parameters this one reads itself."""
        return self.query, self.key, self.value

    def projected(self, x: Tensor, keys_from: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, Sq, H, D], keys and values [B, Sk, Hkv, D], these of `keys_from` where it is given."""
        if keys_from is None:
            query, key, value = joined(x, [self.query, self.key, self.value])
        else:
            query, (key, value) = self.query(x), joined(keys_from, [self.key, self.value])
        if self.replaced:  # views of one tensor would keep all of it
            value = value.contiguous()
            key = key if self.replaced > 1 else key.contiguous()
        return self._heads(query, self.query_norm), self._heads(key, self.key_norm), self._heads(value, None)

    def _heads(self, projected: Tensor, norm: nn.Module | None) -> Tensor:
        """Divided into heads; normalised before or after that, in the projection's own dtype."""
        if norm is not None:
            projected = projected.contiguous()
        if norm is not None and self.qk_norm == "projection":
            return norm(projected).to(projected.dtype).unflatten(-1, (-1, self.channels))
        heads = projected.unflatten(-1, (-1, self.channels))
        return heads if norm is None else norm(heads).to(projected.dtype)

    def forward(self, x: Tensor, context: Context, keys_from: Tensor | None = None) -> Tensor:
        """x [B, S, width] attends to itself or, given `keys_from` [B, Sk, width], to that."""
        query, key, value = self.projected(x, keys_from)
        if context.rotary is not None and self.turns:
            angles = context.rotary[self.local]
            query, key = (rotary(part, *angles, backend=self.rotary_backend) for part in (query, key))
        if context.memory is not None:
            key, value = context.memory.extend(key, value)
        return self.mix(query, key, value, context.mask(self.local), context)

    def mix(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: PreparedMask,
        context: Context,
        bias: BiasOfHeads | None = None,
    ) -> Tensor:
        """Values mixed by the scores and this layer's own bias, and projected back: [B, Sq, width].

        What `bias` computes is scores too: it is kept or computed again with them."""
        drop = context.dropout
        options = {} if drop is None else drop.of_attention(self.site)
        mixed = self.sequences.attend(
            query,
            key,
            value,
            mask,
            bias=bias,
            again=context.recompute_scores,
            scale=self.scale,
            softcap=self.softcap,
            sink=self.sinks,
            backend=context.backend,
            backward=self.backward_walk,
            **options,
        )
        return dropped(self.output(mixed.flatten(-2)), drop, self.site)


class CrossAttention(Attention):
    """Attention from the decoder to the encoder's hidden states, without positions."""

    site: Site = "cross_attention"

    def forward(self, x: Tensor, context: Context, keys_from: Tensor | None = None) -> Tensor:
        assert context.source is not None and context.source_mask is not None
        memory = context.memory
        if memory is not None and memory.source is not None:
            query, (key, value) = self._heads(self.query(x), self.query_norm), memory.source
        else:
            query, key, value = self.projected(x, context.source)
        if memory is not None:
            memory.source = key, value
        return self.mix(query, key, value, context.source_mask, context)


class RelativeAttention(Attention):
    """Attention by content, by distance and by token type, each with a bias of its own (Dai et al. 2019, section 3.3;
    Yang et al. 2019, section 2.5)."""

    replaced = 1  # by queries with a bias

    def __init__(self, config: ModelConfig, std: InitialStds, *, local: bool = False, turns: bool = True) -> None:
        super().__init__(config.model_copy(update={"bias": False}), std, local=local, turns=turns)
        inner = self.heads * self.channels
        self.distance = Linear(config.width, inner, bias=False, std=std.key)
        for name, rows in (("content_bias", 1), ("distance_bias", 1), ("type_bias", 1), ("types", 2)):
            shape = (rows, self.heads, self.channels) if rows > 1 else (self.heads, self.channels)
            setattr(self, name, nn.Parameter(torch.empty(shape)))
        self.stds = dict.fromkeys(("content_bias", "distance_bias", "type_bias", "types"), std.other)

    content_bias: nn.Parameter
    distance_bias: nn.Parameter
    type_bias: nn.Parameter
    types: nn.Parameter  # a key of the query's own type, a key of another

    def forward(self, x: Tensor, context: Context, keys_from: Tensor | None = None) -> Tensor:
        query, key, value = self.projected(x, keys_from)
        assert context.distances is not None
        distance = self.distance(context.distances).unflatten(-1, (self.heads, self.channels))
        of_content, of_distance, of_type = (
            query + part.to(query.dtype) for part in (self.content_bias, self.distance_bias, self.type_bias)
        )
        scale = self.channels**-0.5  # of queries, not of a number for each pair

        def bias(_query: Tensor, _key: Tensor, _heads: slice) -> Dense:
            by_distance = torch.einsum("bihd,rhd->bhir", of_distance * scale, distance)
            found = _shifted(by_distance, key.shape[1])
            if context.other_type is not None:
                by_type = torch.einsum("bihd,thd->bhit", of_type * scale, self.types.to(query.dtype))
                found = found + torch.where(context.other_type[:, None], by_type[..., 1:], by_type[..., :1])
            return Dense(found.contiguous())  # by itself: the scores by distance are twice as many

        return self.mix(of_content, key, value, context.mask(self.local), context, bias)


def _shifted(scores: Tensor, keys: int) -> Tensor:
    """Scores by distance [B, H, Sq, Sk + Sq], from distance Sk down, to scores by key [B, H, Sq, Sk]: row i is moved
    left by Sq - i (Dai et al. 2019, appendix B)."""
    batch, heads, queries, distances = scores.shape
    scores = scores.reshape(batch, heads, distances, queries)[:, :, 1:]
    return scores.reshape(batch, heads, queries, distances - 1)[..., :keys]
