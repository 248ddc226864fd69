"""Leaf modules: linear layers, embeddings, norms and the feed-forward. Each knows how its own parameters begin."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from trainer.config.model import ModelConfig
from trainer.models.initialization import Spread, initialize

__all__ = [
    "ACTIVATIONS",
    "Embedding",
    "FeedForward",
    "Head",
    "HeadTransform",
    "Linear",
    "RMSNorm",
    "initialize",
    "norm",
]


class Linear(nn.Linear):
    """A linear layer whose weight begins normal with standard deviation `std`; its bias begins at zero."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool, std: float) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.stds = {"weight": std}

    def reset_parameters(self) -> None:
        """Left to `initialize`, which draws every parameter from its own stream."""


class Head(Linear):
    """From the residual stream to logits, whose number does not grow with the width. `scale` multiplies the input."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool, std: float, scale: float = 1.0) -> None:
        super().__init__(inputs, outputs, bias=bias, std=std)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.scale == 1 else x * self.scale)


class Embedding(nn.Embedding):
    """Rows that begin normal with standard deviation `std`."""

    def __init__(self, rows: int, width: int, *, std: float) -> None:
        super().__init__(rows, width)
        self.stds = {"weight": std}

    def reset_parameters(self) -> None:
        """Left to `initialize`."""


class RMSNorm(nn.RMSNorm):
    """In the precision of its weight, also where autocast hands it bf16."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


def norm(config: ModelConfig, width: int | None = None) -> nn.Module:
    """LayerNorm or RMSNorm over `width` channels (default: the residual stream), in fp32; weights begin at one."""
    width = width or config.width
    if config.norm == "rmsnorm":
        return RMSNorm(width, eps=config.norm_epsilon)
    return nn.LayerNorm(width, eps=config.norm_epsilon, bias=config.bias)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class FeedForward(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) when gated (Shazeer 2020, GLU variants)."""

    def __init__(self, config: ModelConfig, std: Spread) -> None:
        super().__init__()
        width, hidden = config.width, config.ffn_channels
        self.activation = ACTIVATIONS[config.activation]
        self.gate = Linear(width, hidden, bias=config.bias, std=std.up) if config.gated else None
        self.up = Linear(width, hidden, bias=config.bias, std=std.up)
        self.down = Linear(hidden, width, bias=config.bias, std=std.down)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        return self.down(self.activation(self.gate(x)) * self.up(x))


class HeadTransform(nn.Module):
    """norm(activation(dense(x))), what BERT puts before its output head (Devlin et al. 2019, in the released code)."""

    def __init__(self, config: ModelConfig, std: float) -> None:
        super().__init__()
        self.dense = Linear(config.width, config.embedding_channels, bias=config.bias, std=std)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = norm(config, config.embedding_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x)))
