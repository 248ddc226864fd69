"""The decoder: every token sees those before it."""

from __future__ import annotations

from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.models.cache import Cache
from trainer.models.model import Backbone
from trainer.models.stack import Stack


class Decoder(Stack, Backbone):
    """The backbone of causal language models (Radford et al. 2019; Touvron et al. 2023)."""

    inputs = ("tokens", "positions", "segments", "order", "samples")

    def __init__(self, config: ModelConfig, vocabulary: int, max_length: int, *, backend: str = "auto") -> None:
        """`vocabulary` rows in the embedding, `max_length` positions in the table where it is learned."""
        super().__init__(config, vocabulary, max_length, causal=True, backend=backend)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        order: Tensor | None = None,
        cache: Cache | None = None,
        samples: Tensor | None = None,
    ) -> Tensor:
        """Hidden states after the last norm, [B, S, width]; tokens, positions, segments and order are [B, S].

        order: a token sees those of at most its own rank, in place of causality; so a prefix of one rank sees itself.
        cache: of the tokens before these, which are added to it.
        samples: [B], the numbers of the rows, by which dropout goes in training.
        """
        positions = self.sequences.places(tokens) if positions is None else positions
        drop = self.dropping(samples)
        x = self.embed(tokens, positions, drop=drop)
        return self.run(x, self.context(x, positions, segments, order, cache=cache, drop=drop), cache)
