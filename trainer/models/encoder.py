"""The encoder: every token sees every other; BERT's kind, ALBERT's, XLNet's, ModernBERT's and ELECTRA's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels import prepare_mask
from trainer.config.model import ModelConfig
from trainer.models.attention import Context
from trainer.models.initialization import initial_stds
from trainer.models.losses import NOT_A_TARGET, per_row
from trainer.models.parts import Head, Linear, computing_dtype
from trainer.models.positions import sinusoids
from trainer.models.replaced_token import ReplacedTokens
from trainer.models.stack import Stack, places
from trainer.models.token_head import TokenHead

Output = tuple[Tensor, Tensor, dict[str, Tensor]]


class Encoder(Stack):
    """A bidirectional transformer with the heads of its pre-training (Devlin et al. 2019)."""

    def __init__(self, config: ModelConfig, vocabulary: int, max_length: int, *, backend: str = "auto") -> None:
        super().__init__(config, vocabulary, max_length, causal=False, backend=backend)
        std, width = initial_stds(config), config.width
        output: Linear
        self.pooler = Linear(width, width, bias=True, std=std.other) if config.pooler == "pretraining" else None
        self.sentence = None
        if config.sentence_head:
            self.sentence = Head(width, 2, bias=True, std=std.table, scale=1 / config.width_growth)
        self.query_start = nn.Parameter(torch.empty(width)) if config.two_stream else None
        self.stds = {"query_start": std.other}
        self.head: TokenHead | None = None
        self.replaced: ReplacedTokens | None = None
        small = config.generator
        if small is None:
            self.head = TokenHead(config, vocabulary)
            output = self.head.output
        else:
            generator = Stack(small, vocabulary, max_length, causal=False, embedded_by=self, backend=backend)
            self.replaced = ReplacedTokens(config, generator, TokenHead(small, vocabulary))
            output = self.replaced.token_head.output
        if config.tied:
            output.weight = self.tokens.weight

    # --- the residual stream ---

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor,
        segments: Tensor | None,
        token_types: Tensor | None = None,
        order: Tensor | None = None,
    ) -> Tensor:
        """The residual stream after the last block, [B, S, width]; all arguments are [B, S].

        order: a token sees those of at most its own rank only (UniLM, Dong et al. 2019).
        """
        x = self.embed(tokens, positions, token_types)
        context = self.context(x, positions, segments, order)
        if self.config.position == "relative":
            context = self._with_distances(context, x, 0, token_types)
        return self.run(x, context)

    def two_streams(
        self,
        tokens: Tensor,
        positions: Tensor,
        segments: Tensor | None,
        order: Tensor,
        token_types: Tensor | None = None,
        memory: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The query stream [B, S, width], which knows a token's place and not its content (Yang et al. 2019, 2.3).

        Also the input of every block, which the next segment may take as `memory`: [B, M, width] each, no gradient.
        """
        assert self.query_start is not None
        content = self.embed(tokens, positions, token_types)
        query = self.query_start.to(content.dtype).expand_as(content)
        contexts = [
            self._two_stream_context(content, positions, segments, order, token_types, memory, strict)
            for strict in (False, True)
        ]
        inputs = []
        for layer in range(self.depth):
            inputs.append(content.detach())
            keys = content if memory is None else torch.cat((memory[layer].to(content.dtype), content), dim=1)
            query = self.block(layer, query, contexts[1], keys)
            content = self.block(layer, content, contexts[0], None if memory is None else keys)
        return self.norm(query), inputs

    def _two_stream_context(
        self,
        x: Tensor,
        positions: Tensor,
        segments: Tensor | None,
        order: Tensor,
        token_types: Tensor | None,
        memory: Sequence[Tensor] | None,
        strict: bool,
    ) -> Context:
        if memory is None:
            context, remembered = self.context(x, positions, segments, order, strict=strict), 0
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
            )
            context = Context((mask, None), None, self.backend)
        return self._with_distances(context, x, remembered, token_types)

    def _with_distances(self, context: Context, x: Tensor, remembered: int, token_types: Tensor | None) -> Context:
        length = x.shape[1]
        distances = torch.arange(remembered + length, -length, -1, device=x.device)
        rows = sinusoids(distances, self.config.width, steps=self.config.width // 2)
        other = None
        if token_types is not None:
            keys = F.pad(token_types, (remembered, 0))
            other = token_types[:, :, None] != keys[:, None, :]
        return context._replace(distances=rows, other_type=other)

    # --- predictions ---

    def logits(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        token_types: Tensor | None = None,
        order: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, S, vocabulary] of the token at every place; with two streams and `order`, by the query stream."""
        if self.head is None:
            raise ValueError("an encoder with a discriminator has no token logits; use replaced.generate or .detect")
        positions = places(tokens) if positions is None else positions
        return self.head(self._predicting(tokens, positions, segments, token_types, order))

    def _predicting(
        self,
        tokens: Tensor,
        positions: Tensor,
        segments: Tensor | None,
        token_types: Tensor | None,
        order: Tensor | None,
    ) -> Tensor:
        """The stream that the heads read."""
        if order is not None and self.query_start is not None:
            return self.two_streams(tokens, positions, segments, order, token_types)[0]
        return self.hidden(tokens, positions, segments, token_types, order)

    def sentence_logits(self, hidden: Tensor) -> Tensor:
        """Two-way logits [B, 2] from the first token's residual stream."""
        assert self.pooler is not None and self.sentence is not None
        return self.sentence(torch.tanh(self.pooler(hidden[:, 0])))

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor,
        segments: Tensor,
        positions: Tensor,
        token_types: Tensor | None = None,
        sentence_label: Tensor | None = None,
        order: Tensor | None = None,
    ) -> Output:
        """Sum of the loss in nats over the targets (fp32), their count, and named side sums.

        All [B, S] but sentence_label [B]. A target is the token that belongs at its own place. token_types: sentence A
        or B. sentence_label: class of the sentence head, -100 for none. order: who sees whom by rank; with two streams,
        the factorization order of permuted language modelling.
        """
        if self.replaced is not None:
            return self.replaced(self.hidden, tokens, targets, segments, positions, token_types)
        assert self.head is not None
        hidden = self._predicting(tokens, positions, segments, token_types, order)
        loss, count = self.head(hidden, targets)
        if self.sentence is None or sentence_label is None:
            return loss, count, {}
        logits = self.sentence_logits(hidden).float()
        sentences = F.cross_entropy(logits, sentence_label, ignore_index=NOT_A_TARGET, reduction="none")
        sums = {
            "sentence_loss": sentences.sum(),
            "sentence_correct": (logits.argmax(dim=-1) == sentence_label).sum(),
            "sentences": (sentence_label >= 0).sum(),
        }
        return loss + per_row(sentences, targets), count, {name: value.detach() for name, value in sums.items()}
