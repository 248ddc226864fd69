"""The encoder: every token sees every other; BERT's kind, ALBERT's, XLNet's, ModernBERT's and ELECTRA's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels import prepare_mask
from trainer.config.model import ModelConfig
from trainer.models.attention import Context
from trainer.models.block import summed
from trainer.models.dropout import Dropout, attention_fields, dropped
from trainer.models.initialization import initial_stds
from trainer.models.model import Backbone
from trainer.models.parts import Embedding
from trainer.models.positions import sinusoids
from trainer.models.products import computing_dtype
from trainer.models.stack import Stack


class Encoder(Stack, Backbone):
    """A bidirectional transformer (Devlin et al. 2019), with XLNet's second stream where the model has one."""

    inputs = ("tokens", "positions", "segments", "token_types", "languages", "order", "samples")

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: int,
        max_length: int,
        *,
        tokens: Embedding | None = None,
        embedded_by: Stack | None = None,
        backend: str = "auto",
    ) -> None:
        """As `Stack`."""
        super().__init__(
            config,
            vocabulary,
            max_length,
            causal=False,
            tokens=tokens,
            embedded_by=embedded_by,
            backend=backend,
        )
        if tokens is not None or embedded_by is not None:
            self.tower = "generator"
        apart = config.generator is not None and config.embedding_sharing == "disentangled"
        self.delta = Embedding(vocabulary, config.embedding_channels, std=0.0) if apart else None
        self.query_start = nn.Parameter(torch.empty(config.width)) if config.two_stream else None
        self.stds = {"query_start": initial_stds(config).other}

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        token_types: Tensor | None = None,
        order: Tensor | None = None,
        samples: Tensor | None = None,
        languages: Tensor | None = None,
    ) -> Tensor:
        """Hidden states after the last block, [B, S, width]; all arguments are [B, S].

        order: a token sees those of at most its own rank only (UniLM, Dong et al. 2019); with two streams, the
        factorization order, and the hidden states are those of the query stream. samples: [B], the numbers of the rows,
        by which dropout goes in training. languages: rows of `model.languages`.
        """
        positions = self.sequences.places(tokens) if positions is None else positions
        if order is not None and self.query_start is not None:
            return self.two_streams(tokens, positions, segments, order, token_types, samples=samples)[0]
        drop = self.dropping(samples)
        x = self.embed(tokens, positions, token_types, drop, languages)
        context = self.context(x, positions, segments, order, drop=drop)
        if self.config.position == "relative":
            context = self._with_distances(context, x, 0, token_types)
        return self.run(x, context)

    def rows(self, tokens: Tensor) -> Tensor:
        """As `Stack.rows`; beside a generator with an embedding of its own, that one, which learns nothing here, plus a
        difference that does (He et al. 2023, section 3.3)."""
        if self.delta is None:
            return super().rows(tokens)
        with torch.no_grad():
            of_generator = self.tokens(tokens)
        return of_generator + self.delta(tokens)

    def two_streams(
        self,
        tokens: Tensor,
        positions: Tensor,
        segments: Tensor | None,
        order: Tensor,
        token_types: Tensor | None = None,
        memory: Sequence[Tensor] | None = None,
        samples: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The query stream [B, S, width], which knows a token's place and not its content (Yang et al. 2019, 2.3).

        Also the input of every block, which the next segment may take as `memory`: [B, M, width] each, no gradient.
        """
        assert self.query_start is not None
        drops = (self.dropping(samples), self.dropping(samples, "query"))
        content = self.embed(tokens, positions, token_types, drops[0])
        query = dropped(self.query_start.to(content.dtype).expand_as(content), drops[1], "embedding")
        contexts = [
            self._two_stream_context(content, positions, segments, order, token_types, memory, strict, drop)
            for strict, drop in zip((False, True), drops, strict=True)
        ]
        inputs = []
        for layer in range(self.depth):
            inputs.append(content.detach())
            keys = content if memory is None else torch.cat((memory[layer].to(content.dtype), content), dim=1)
            query = summed(*self.block(layer, (query, None), contexts[1], keys))
            content = summed(*self.block(layer, (content, None), contexts[0], None if memory is None else keys))
        return self.finish((query, None), drops[1]), inputs

    def _two_stream_context(
        self,
        x: Tensor,
        positions: Tensor,
        segments: Tensor | None,
        order: Tensor,
        token_types: Tensor | None,
        memory: Sequence[Tensor] | None,
        strict: bool,
        drop: Dropout | None,
    ) -> Context:
        if memory is None:
            context, remembered = self.context(x, positions, segments, order, strict=strict, drop=drop), 0
        else:  # what is remembered comes before all ranks, and belongs to the first document
            remembered = memory[0].shape[1]
            before = order.new_full((order.shape[0], remembered), int(torch.iinfo(torch.int32).min))
            own = torch.zeros_like(order) if segments is None else segments
            mask = prepare_mask(
                x.shape[1],
                remembered + x.shape[1],
                device=x.device,
                dtype=computing_dtype(x),
                segments=(own, torch.cat((torch.zeros_like(before, dtype=own.dtype), own), dim=1)),
                order=(order, torch.cat((before, order), dim=1)),
                strict=strict,
                backend=self.backend,
                head_dim=self.config.head_channels,
                fields=attention_fields(self.config, drop),
            )
            context = Context((mask, None), None, self.backend, dropout=drop)
        return self._with_distances(context, x, remembered, token_types)

    def _with_distances(self, context: Context, x: Tensor, remembered: int, token_types: Tensor | None) -> Context:
        length = x.shape[1]
        distances = torch.arange(remembered + length, -length, -1, device=x.device)
        rows = sinusoids(distances, self.config.width, steps=self.config.width // 2).to(computing_dtype(x))
        other = None
        if token_types is not None:
            keys = F.pad(token_types, (remembered, 0))
            other = token_types[:, :, None] != keys[:, None, :]
        return context._replace(distances=rows, other_type=other)
