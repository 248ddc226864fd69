"""The stack: an embedding, blocks, and what all blocks of a forward pass share. Backbones are stacks, one or two."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kernels import Alibi, T5Bias
from trainer.config.model import ModelConfig
from trainer.config.recomputation import Recomputation, scores, whole_block
from trainer.models.attention import Context
from trainer.models.block import Block, Stream, normalised, summed
from trainer.models.cache import Cache, seen_before
from trainer.models.disentangled import RelativePositions
from trainer.models.dropout import Dropout, Rates, Tower, attention_fields, dropped
from trainer.models.initialization import initial_stds
from trainer.models.norms import norm
from trainer.models.parts import Embedding, Linear
from trainer.models.positions import alibi_slopes, formula_sinusoids, rotary_angles, sinusoids
from trainer.models.products import computing_dtype
from trainer.models.routing import Routing
from trainer.models.sequence import WHOLE, Sequences


class Stack(nn.Module):
    """Tokens in, residual stream out: [B, S] -> [B, S, width]."""

    tower: Tower = "main"  # of its dropout
    sequences: Sequences = WHOLE  # how their positions are divided over ranks

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: int,
        max_length: int,
        *,
        causal: bool,
        depth: int | None = None,
        cross: bool = False,
        tokens: Embedding | None = None,
        embedded_by: Stack | None = None,
        backend: str = "auto",
    ) -> None:
        """`vocabulary` rows in the embedding, `max_length` positions in the table where it is learned.

        cross: blocks attend to an encoder's output. tokens: the token embedding of another stack, to be used here too.
        embedded_by: the stack whose whole embedding is used here too.
        """
        super().__init__()
        self.config, self.causal, self.backend = config, causal, backend
        self.depth = depth or config.depth
        self.recompute: Recomputation = False  # activation checkpointing; the engine sets it
        self.routing: Routing | None = None  # of a forward pass whose routers are watched
        self.dropout = Rates.of(config)
        std = initial_stds(config)
        self._embedding(config, vocabulary, max_length, tokens, embedded_by)
        factorised = config.embedding_channels != config.width
        whole = config.embedding_projection == "sum"
        self.projection = (
            Linear(config.embedding_channels, config.width, bias=whole, std=std.other) if factorised else None
        )
        self.buckets = None
        if config.position == "buckets" and config.relative_buckets is not None:
            self.buckets = Embedding(config.relative_buckets, config.heads, std=std.table)
        self.relative = RelativePositions(config, std) if config.position == "disentangled" else None
        count = 1 if config.shared_layers else self.depth
        self.blocks = nn.ModuleList(Block(config, layer, cross=cross) for layer in range(count))
        self.norm = norm(config) if config.final_norm else nn.Identity()
        if config.position == "alibi":
            self.register_buffer("slopes", torch.tensor(alibi_slopes(config.heads)), persistent=False)

    tokens: Embedding
    positions: Embedding | None
    token_types: Embedding | None
    languages: Embedding | None
    embedding_norm: nn.Module | None
    buckets: Embedding | None
    slopes: Tensor

    def _embedding(
        self, config: ModelConfig, vocabulary: int, max_length: int, tokens: Embedding | None, other: Stack | None
    ) -> None:
        if other is not None:
            self.tokens, self.positions = other.tokens, other.positions
            self.token_types, self.languages = other.token_types, other.languages
            self.embedding_norm = other.embedding_norm
            return
        std, columns = initial_stds(config).embedding, config.position_channels
        self.tokens = tokens or Embedding(vocabulary, config.embedding_channels, std=std)
        rows = max_length + config.position_offset
        self.positions = Embedding(rows, columns, std=std) if config.position == "learned" else None
        self.token_types = Embedding(config.token_types, columns, std=std) if config.token_types else None
        self.languages = Embedding(len(config.languages), columns, std=std) if config.languages else None
        self.embedding_norm = norm(config, columns) if config.embedding_norm else None

    def dropping(self, samples: Tensor | None, tower: Tower | None = None) -> Dropout | None:
        """The dropout of this forward pass over the rows of these numbers [B], if there is any."""
        return self.dropout.begin(self, tower or self.tower, samples, self.sequences)

    def rows(self, tokens: Tensor) -> Tensor:
        """The embedding of each token alone, [B, S, columns]."""
        return self.tokens(tokens)

    def embed(
        self,
        tokens: Tensor,
        positions: Tensor,
        token_types: Tensor | None = None,
        drop: Dropout | None = None,
        languages: Tensor | None = None,
    ) -> Tensor:
        """Tokens [B, S] with their positions, types and languages, normalised, as the blocks take them: [B, S, width].

        languages: rows of `model.languages`; null: of nothing is said what language it is.
        """
        config, x = self.config, self.rows(tokens)
        first, last = (self.projection, None) if config.embedding_projection == "tokens" else (None, self.projection)
        if first is not None:
            x = first(x)
        if config.embedding_scale:
            x = x * config.base_width**0.5
        if self.positions is not None:
            x = x + self.positions(positions + config.position_offset if config.position_offset else positions)
        elif config.position == "sinusoidal":
            wave = formula_sinusoids if config.sinusoids == "formula" else sinusoids
            x = x + wave(positions + config.position_offset, config.position_channels).to(x.dtype)
        if self.token_types is not None:
            x = x + self.token_types(torch.zeros_like(tokens) if token_types is None else token_types)
        if self.languages is not None and languages is not None:
            x = x + self.languages(languages)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = dropped(x, drop, "embedding")
        return x if last is None else last(x)

    def context(
        self,
        x: Tensor,
        positions: Tensor,
        segments: Tensor | None,
        order: Tensor | None = None,
        *,
        strict: bool = False,
        cache: Cache | None = None,
        drop: Dropout | None = None,
    ) -> Context:
        """What the blocks share: who sees whom, and the angles of rotary positions.

        segments [B, S]: tokens of different segments do not see each other; a negative segment is padding.
        order [B, S]: a token sees those of at most (`strict`: less than) its own rank, in place of causality.
        Both are of whole sequences, also where x is of a part of their positions.
        cache: what was read before x, and that x is read now; x sees it, as far as it is of the same segment.
        drop: dropout of this pass.
        """
        config, length = self.config, self.sequences.whole_length(x.shape[1])
        before = 0 if cache is None else cache.length
        if cache is not None:
            cache.read(length, segments)

        def mask(window: int | None) -> Any:
            keys = seen_before(before, window) + length
            own: Tensor | tuple[Tensor, Tensor] | None = segments
            if cache is not None and segments is not None and cache.segments is not None:
                own = (segments, cache.segments[:, -keys:])
            return self.sequences.mask(
                length,
                keys,
                device=x.device,
                dtype=computing_dtype(x),
                causal=self.causal and order is None,
                window=None if window is None else (window, window),
                bias=self._bias(),
                segments=own,
                order=order,
                strict=strict,
                backend=self.backend,
                head_dim=config.head_channels,
                fields=attention_fields(config, drop),
            )

        local = any(config.local(layer) for layer in range(self.depth))
        rotary = None
        if config.position == "rotary":
            everywhere = rotary_angles(positions, config)
            alike = config.rotary_base_local is None and config.rotary_scaled == "all"
            rotary = (everywhere, everywhere if alike else rotary_angles(positions, config, local=True))
        masks = (mask(None), mask(config.window) if local else None)
        relative = None if self.relative is None else self.relative(length)
        real = self.sequences.own(segments) >= 0 if config.experts.count and segments is not None else None
        return Context(masks, rotary, self.backend, relative=relative, dropout=drop, real=real, routing=self.routing)

    def _bias(self) -> Alibi | T5Bias | None:
        config = self.config
        if config.position == "alibi":
            return Alibi(self.slopes)
        if self.buckets is not None:
            table = self.buckets.weight
            return T5Bias(table, not self.causal, self.buckets.num_embeddings, config.relative_distance)
        return None

    def run(self, x: Tensor, context: Context, cache: Cache | None = None) -> Tensor:
        """All blocks and the last norm."""
        stream: Stream = x, None
        for layer in range(self.depth):
            here = context if cache is None else context._replace(memory=cache.layers[layer])
            stream = self.block(layer, stream, here)
        return self.finish(stream, context.dropout)

    def finish(self, stream: Stream, drop: Dropout | None) -> Tensor:
        """What follows the last block: a norm and, in T5 and XLNet, dropout."""
        x, _ = normalised(self.norm, *stream)
        return dropped(x, drop, "output") if self.config.dropout_inside else x

    def block(self, layer: int, stream: Stream, context: Context, keys_from: Tensor | None = None) -> Stream:
        block, (x, added) = self.blocks[layer % len(self.blocks)], stream
        if context.dropout is not None:
            context = context._replace(dropout=context.dropout.at(layer + 1))
        if self.training and whole_block(self.recompute, layer):  # what is kept between blocks is then one tensor
            # No generator's state is kept: dropout is a function of its place (trainer/models/dropout.py).
            whole = lambda *given: summed(*block(*given))  # noqa: E731
            given = summed(x, added), context, keys_from
            return checkpoint(whole, *given, use_reentrant=False, preserve_rng_state=False), None
        if self.training and scores(self.recompute):
            context = context._replace(recompute_scores=True)
        return block(x, context, keys_from, added)
