"""Leaf modules: output layers, embeddings and the feed-forward. Each knows how its own parameters begin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kernels import choice, linear_cross_entropy, padded_linear
from trainer.config.model import ModelConfig
from trainer.descriptions.optimizers import Role
from trainer.models.activations import activation, gated_product
from trainer.models.dropout import Dropout, dropped
from trainer.models.initialization import InitialStds, initialize
from trainer.models.linear import Linear
from trainer.models.losses import NOT_A_TARGET, of_sums, token_loss
from trainer.models.norms import norm
from trainer.models.products import computing_dtype, joined
from trainer.models.sequence.slices import Stretch
from trainer.models.tiles import in_tiles, tiles

__all__ = [
    "Embedding",
    "FeedForward",
    "HeadTransform",
    "Linear",
    "OutputLayer",
    "initialize",
]


class OutputLayer(Linear):
    """From the residual stream to logits, whose number does not grow with the width. `scale` multiplies the input;
    `softcap` bounds the logits, 0 for off.

    backend: of the loss, as `kernels.loss` in the configuration.
    """

    backend = "auto"
    role: Role = "head"

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool, std: float, scale: float = 1.0, softcap: float = 0.0
    ) -> None:
        super().__init__(inputs, outputs, bias=bias, std=std)
        self.scale, self.softcap = scale, softcap

    def forward(self, x: Tensor, targets: Tensor | None = None, smoothing: float = 0.0, z_loss: float = 0.0) -> Any:
        """Logits [..., V]; with targets [...]: as `token_loss` makes it of them."""
        x = x if self.scale == 1 else x * self.scale
        if targets is None:
            logits = super().forward(x)
            return logits if not self.softcap else softcapped(logits, self.softcap)
        fused = choice.output_layer_backend(self.backend, x.device.type)
        if fused is None:
            plain = "reference" if self.backend == "reference" else "torch"
            logits = padded_linear(x, self.weight, self.bias)
            return token_loss(logits, targets, smoothing, z_loss=z_loss, softcap=self.softcap, backend=plain)
        sums = linear_cross_entropy(
            x.to(computing_dtype(x)),
            self.weight,
            targets,
            bias=self.bias,
            ignore_index=NOT_A_TARGET,
            label_smoothing=smoothing,
            z_loss=z_loss,
            softcap=self.softcap,
            backend="torch" if fused == "chunked" else self.backend,
        )
        return of_sums(sums, z_loss)


def softcapped(logits: Tensor, cap: float) -> Tensor:
    """Bounded to (-cap, cap) by cap tanh(logits / cap) (Gemma 2, 2024, section 2), in fp32 or better."""
    return cap * torch.tanh(logits.to(torch.promote_types(logits.dtype, torch.float32)) / cap)


class Embedding(nn.Embedding):
    """Rows that begin normal with standard deviation `std`."""

    role: Role = "embedding"

    def __init__(self, rows: int, width: int, *, std: float) -> None:
        super().__init__(rows, width)
        self.stds = {"weight": std}

    def reset_parameters(self) -> None:
        """Left to `initialize`."""


class FeedForward(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) when gated (Shazeer 2020, GLU variants)."""

    backend = "auto"  # of the gated product
    tile: int | None = None  # positions that are computed at a time; None: all

    def __init__(self, config: ModelConfig, std: InitialStds) -> None:
        super().__init__()
        width, hidden = config.width, config.ffn_channels
        self.activation, self.gated = activation(config), gated_product(config)
        self.gate = Linear(width, hidden, bias=config.bias, std=std.up) if config.gated else None
        self.up = Linear(width, hidden, bias=config.bias, std=std.up)
        self.down = Linear(hidden, width, bias=config.bias, std=std.down)
        self.dropout_inside = config.dropout_inside

    @property
    def reads(self) -> tuple[Linear, ...]:
        """Layers whose parameters this one reads itself."""
        return () if self.gate is None else (self.gate, self.up)

    def forward(self, x: Tensor, drop: Dropout | None = None) -> Tensor:
        """[..., S, width] of x [..., S, width]."""
        if self.tile is None or x.shape[-2] <= self.tile:
            return dropped(self._made(x, drop), drop, "feed_forward")
        every = (Stretch(0, x.shape[-2]),) if drop is None else drop.stretches(x.shape[-2])

        def made(part: Tensor, place: Stretch) -> Tensor:
            return self._made(part, None if drop is None else drop.of(place))

        return dropped(in_tiles(made, x.to(computing_dtype(x)), tiles(every, self.tile)), drop, "feed_forward")

    def _made(self, x: Tensor, drop: Dropout | None) -> Tensor:
        hidden = self._hidden(x)
        return self.down(dropped(hidden, drop, "hidden") if self.dropout_inside else hidden)

    def _hidden(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.activation(self.up(x))
        strided = choice.backend(self.backend, x.device.type).backend == "triton"
        gate, up = joined(x, [self.gate, self.up], apart=not strided)
        return self.activation(gate) * up if self.gated is None else self.gated(gate, up, backend=self.backend)


class HeadTransform(nn.Module):
    """norm(activation(dense(x))), what BERT puts before its output head (Devlin et al. 2019, in the released code)."""

    def __init__(self, config: ModelConfig, std: float) -> None:
        super().__init__()
        self.dense = Linear(config.width, config.embedding_channels, bias=config.bias, std=std)
        self.activation = activation(config)
        self.norm = norm(config, config.embedding_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x)))
