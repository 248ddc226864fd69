"""The decoder: a causal language model of any of the published kinds."""

from __future__ import annotations

from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.models.cache import Cache
from trainer.models.initialization import initial_stds
from trainer.models.parts import Head, HeadTransform, Linear
from trainer.models.stack import Stack, places


class Decoder(Stack):
    """Predicts each next token (Radford et al. 2019; Touvron et al. 2023)."""

    label_smoothing = 0.0  # of the loss in training, a matter of tuning

    def __init__(self, config: ModelConfig, vocabulary: int, max_length: int, *, backend: str = "auto") -> None:
        """`vocabulary` rows in the embedding, `max_length` positions in the table where it is learned."""
        super().__init__(config, vocabulary, max_length, causal=True, backend=backend)
        std, columns = initial_stds(config), config.embedding_channels
        self.transform: HeadTransform | Linear | None = None
        if config.head_transform:
            self.transform = HeadTransform(config, std.other)
        elif columns != config.width:
            self.transform = Linear(config.width, columns, bias=False, std=std.other)
        self.head = Head(columns, vocabulary, bias=config.head_bias, std=std.head, scale=config.head_factor)
        if config.tied:
            self.head.weight = self.tokens.weight

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor,
        segments: Tensor | None,
        order: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The residual stream after the last norm, [B, S, width]; tokens, positions, segments and order are [B, S].

        order: a token sees those of at most its own rank, in place of causality; so a prefix of one rank sees itself.
        cache: of the tokens before these, which are added to it.
        """
        x = self.embed(tokens, positions)
        return self.run(x, self.context(x, positions, segments, order, cache=cache), cache)

    def predict(self, hidden: Tensor) -> Tensor:
        """Logits [B, S, vocabulary] from the residual stream."""
        return self.head(hidden if self.transform is None else self.transform(hidden))

    def logits(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        order: Tensor | None = None,
    ) -> Tensor:
        """Next-token logits [B, S, vocabulary]."""
        return self.predict(self.hidden(tokens, places(tokens) if positions is None else positions, segments, order))

    def forward(
        self, tokens: Tensor, targets: Tensor, segments: Tensor, positions: Tensor, order: Tensor | None = None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the loss in nats over the targets (fp32), their count, and named side sums (none here)."""
        hidden = self.hidden(tokens, positions, segments, order)
        if self.transform is not None:
            hidden = self.transform(hidden)
        loss, count = self.head(hidden, targets, self.label_smoothing * self.training)
        return loss, count, {}
