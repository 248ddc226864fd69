"""ELECTRA: a small generator fills the masks, and the encoder tells which tokens it replaced (Clark et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.attention.dropout import philox
from trainer.config.model import ModelConfig
from trainer.models.initialization import initial_stds
from trainer.models.losses import NOT_A_TARGET, mean_where, per_row, token_loss
from trainer.models.parts import ACTIVATIONS, Linear
from trainer.models.stack import Stack
from trainer.models.token_head import TokenHead

Hidden = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


class ReplacedTokens(nn.Module):
    """The generator and the discriminator's head; the discriminator itself is the encoder that holds this."""

    def __init__(self, config: ModelConfig, generator: Stack, token_head: TokenHead) -> None:
        super().__init__()
        std = initial_stds(config).other
        self.generator, self.token_head = generator, token_head
        self.dense = Linear(config.width, config.width, bias=True, std=std)
        self.activation = ACTIVATIONS[config.activation]
        self.output = Linear(config.width, 1, bias=True, std=std)
        self.weight = config.generator_weight

    def generate(
        self, tokens: Tensor, positions: Tensor, segments: Tensor | None, token_types: Tensor | None = None
    ) -> Tensor:
        """The generator's logits [B, S, vocabulary]."""
        x = self.generator.embed(tokens, positions, token_types)
        return self.token_head(self.generator.run(x, self.generator.context(x, positions, segments)))

    def detect(self, hidden: Tensor) -> Tensor:
        """Logits [B, S] of having been replaced, from the discriminator's residual stream."""
        return self.output(self.activation(self.dense(hidden))).squeeze(-1)

    def forward(
        self,
        hidden: Hidden,
        tokens: Tensor,
        targets: Tensor,
        segments: Tensor,
        positions: Tensor,
        token_types: Tensor | None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Loss of the generator at the targets plus the weighted mean loss of the discriminator over all tokens.

        `hidden`: the discriminator's residual stream [B, S, width] of tokens, positions, segments and token types.
        """
        logits = self.generate(tokens, positions, segments, token_types)
        loss, count = token_loss(logits, targets)
        chosen = targets != NOT_A_TARGET
        drawn = sample(logits.detach(), row_noise(tokens, targets))
        replaced = chosen & (drawn != targets)  # a lucky draw is an original
        filled = torch.where(chosen, drawn, tokens)
        found = self.detect(hidden(filled, positions, segments, token_types)).float()
        real = segments >= 0
        each = F.binary_cross_entropy_with_logits(found, replaced.float(), reduction="none")
        sums = {
            "generator_loss": loss,
            "discriminator_loss": (each * real).sum(),
            "discriminator_correct": (((found > 0) == replaced) & real).sum(),
            "discriminated": real.sum(),
            "replaced": replaced.sum(),
        }
        total = loss + self.weight * per_row(mean_where(each, real), targets)
        return total, count, {name: value.detach() for name, value in sums.items()}


def row_noise(tokens: Tensor, targets: Tensor) -> Tensor:
    """Uniform in [0, 1), float32 [B, S]: a pure function of each row's own content, so that it does not depend
    on ranks, micro-batches or resumes."""
    place = torch.arange(tokens.shape[1], device=tokens.device)[None]
    zero = torch.zeros_like(place)
    words = philox(torch.zeros_like(place), tokens, targets - NOT_A_TARGET, place, zero)
    key = (words[0] + (words[1] << 31)).sum(dim=1, keepdim=True)  # wraps around
    return (philox(key, place, zero, zero, zero)[0] >> 8).float() * 2.0**-24


def sample(logits: Tensor, noise: Tensor) -> Tensor:
    """One token per place from softmax(logits) [B, S, V], by the inverse of the cumulative distribution at `noise`."""
    cumulative = logits.float().softmax(dim=-1).cumsum(dim=-1)
    aim = noise.to(cumulative.dtype)[..., None] * cumulative[..., -1:]
    return torch.searchsorted(cumulative, aim, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
