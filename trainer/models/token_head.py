"""The head of masked language models."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from trainer.config.model import ModelConfig
from trainer.models.initialization import initial_stds
from trainer.models.parts import Head, HeadTransform


class TokenHead(nn.Module):
    """From the residual stream to logits over the vocabulary: BERT's transform, if any, and the output matrix."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        std = initial_stds(config)
        self.transform = HeadTransform(config, std.other) if config.head_transform else None
        columns, bias = config.embedding_channels, config.head_bias
        self.output = Head(columns, vocabulary, bias=bias, std=std.head, scale=config.head_factor)

    def forward(self, hidden: Tensor, targets: Tensor | None = None) -> Any:
        """As `Head`: logits, or the loss of targets and their count."""
        return self.output(hidden if self.transform is None else self.transform(hidden), targets)
