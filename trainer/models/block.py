"""The block: attention and feed-forward around the residual stream. A model is what its paper says."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from trainer.config.model import ModelConfig
from trainer.models.attention import Attention, Context, CrossAttention, RelativeAttention
from trainer.models.initialization import spread
from trainer.models.parts import FeedForward, norm


class Block(nn.Module):
    """Attention, cross-attention in the decoder of an encoder-decoder, feed-forward; each in a residual step."""

    def __init__(self, config: ModelConfig, layer: int = 0, *, cross: bool = False) -> None:
        super().__init__()
        self.order, self.parallel = config.norm_position, config.parallel
        std, local = spread(config), config.local(layer)
        normed = layer > 0 or config.first_norm
        self.attention_norm = norm(config) if normed else nn.Identity()
        kind = RelativeAttention if config.position == "relative" else Attention
        self.attention = kind(config, std, local=local)
        if cross:
            self.cross_norm = norm(config)
            self.cross_attention = CrossAttention(config, std)
        self.cross = cross
        self.feed_forward_norm = norm(config)
        self.feed_forward = FeedForward(config, std)

    def forward(self, x: Tensor, context: Context, keys_from: Tensor | None = None) -> Tensor:
        """x [B, S, width]; `keys_from` [B, Sk, width]: another stream to take keys and values from, in place of x."""
        if keys_from is not None and self.order == "pre":
            keys_from = self.attention_norm(keys_from)
        if self.parallel:  # Black et al. 2022, section 2.1
            mixed = self.attention(self.attention_norm(x), context, keys_from)
            return x + mixed + self.feed_forward(self.feed_forward_norm(x))
        x = self._step(x, self.attention_norm, lambda y: self.attention(y, context, keys_from))
        if self.cross:
            x = self._step(x, self.cross_norm, lambda y: self.cross_attention(y, context))
        return self._step(x, self.feed_forward_norm, self.feed_forward)

    def _step(self, x: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """One residual step: Xiong et al. 2020, figure 1; reordered: OLMo 2 (Walsh et al. 2025, section 3.3)."""
        if self.order == "pre":
            return x + branch(norm(x))
        if self.order == "post":
            return norm(x + branch(x))
        return x + norm(branch(x))
