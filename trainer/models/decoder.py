"""The decoder: GPT-2's kind and Llama's kind out of the same parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kernels import prepare_mask
from trainer.config import ModelConfig
from trainer.models.block import Block, Context
from trainer.models.parts import Embedding, Linear, norm, rotary_angles

NOT_A_TARGET = -100


class Decoder(nn.Module):
    """A causal language model (Radford et al. 2019; Touvron et al. 2023)."""

    def __init__(self, config: ModelConfig, vocabulary: int, max_length: int, *, backend: str = "auto") -> None:
        """`vocabulary` rows in the embedding, `max_length` rows in the position table where it is learned."""
        super().__init__()
        self.config, self.backend = config, backend
        self.recompute = False  # activation checkpointing, a matter of the engine
        self.tokens = Embedding(vocabulary, config.width, std=config.init_std)
        self.positions = Embedding(max_length, config.width, std=config.init_std) if config.position == "learned" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = norm(config)
        self.head = Linear(config.width, vocabulary, bias=False, std=config.init_std)
        if config.tied:
            self.head.weight = self.tokens.weight

    def hidden(self, tokens: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor:
        """The residual stream after the last norm, [B, S, width]; tokens, positions and segments are [B, S]."""
        x = self.tokens(tokens)
        rotary = None
        if self.positions is not None:
            x = x + self.positions(positions)
        else:
            rotary = rotary_angles(positions, self.config.head_channels, self.config.rotary_base)
        mask = prepare_mask(tokens.shape[1], device=tokens.device, causal=True, segments=segments, backend=self.backend)
        context = Context(mask, rotary, self.backend)
        for block in self.blocks:
            if self.recompute and self.training:
                x = checkpoint(block, x, context, use_reentrant=False)
            else:
                x = block(x, context)
        return self.norm(x)

    def logits(self, tokens: Tensor, positions: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Next-token logits [B, S, vocabulary]."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
        return self.head(self.hidden(tokens, positions, segments))

    def forward(
        self, tokens: Tensor, targets: Tensor, segments: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the loss in nats over the targets (fp32), their count, and named side sums (none here)."""
        logits = self.head(self.hidden(tokens, positions, segments)).flatten(0, 1).float()
        loss = F.cross_entropy(logits, targets.flatten(), ignore_index=NOT_A_TARGET, reduction="sum")
        return loss, (targets != NOT_A_TARGET).sum(), {}
