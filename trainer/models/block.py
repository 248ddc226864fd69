"""Self-attention and the block around it. No parallelism here: a model is what the paper says it is."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from kernels import PreparedMask, attention
from trainer.config import ModelConfig
from trainer.models.parts import FeedForward, Linear, norm, rotate


class Context(NamedTuple):
    """What all blocks of one forward pass share."""

    mask: PreparedMask  # who sees whom
    rotary: tuple[Tensor, Tensor] | None  # cosine and sine [B, S, 1, channels]
    backend: str  # of kernels.attention


class SelfAttention(nn.Module):
    """Multi-head attention with grouped queries (Ainslie et al. 2023)."""

    def __init__(self, config: ModelConfig, residual_std: float) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.channels = config.heads, config.key_heads, config.head_channels
        self.query = Linear(config.width, self.heads * self.channels, bias=config.bias, std=config.init_std)
        self.key = Linear(config.width, self.kv_heads * self.channels, bias=config.bias, std=config.init_std)
        self.value = Linear(config.width, self.kv_heads * self.channels, bias=config.bias, std=config.init_std)
        self.output = Linear(self.heads * self.channels, config.width, bias=config.bias, std=residual_std)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        query = self.query(x).unflatten(-1, (self.heads, self.channels))
        key = self.key(x).unflatten(-1, (self.kv_heads, self.channels))
        value = self.value(x).unflatten(-1, (self.kv_heads, self.channels))
        if context.rotary is not None:
            query, key = rotate(query, *context.rotary), rotate(key, *context.rotary)
        mixed = attention(query, key, value, mask=context.mask, backend=context.backend)
        assert isinstance(mixed, Tensor)
        return self.output(mixed.flatten(-2))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)) (pre-norm; Xiong et al. 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        residual_std = config.init_std / (2 * config.depth) ** 0.5 if config.init_residual else config.init_std
        self.attention_norm = norm(config)
        self.attention = SelfAttention(config, residual_std)
        self.feed_forward_norm = norm(config)
        self.feed_forward = FeedForward(config, residual_std)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x + self.attention(self.attention_norm(x), context)
        return x + self.feed_forward(self.feed_forward_norm(x))
