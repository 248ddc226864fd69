"""ELECTRA: a small generator fills the masks, and the encoder tells which tokens it replaced (Clark et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.attention.dropout import philox
from trainer.config.model import ModelConfig
from trainer.models.activations import activation
from trainer.models.initialization import initial_stds
from trainer.models.language_heads import LanguageHead
from trainer.models.losses import NOT_A_TARGET, mean_where, per_row, token_loss, without_added_terms
from trainer.models.model import Head, Model, Output
from trainer.models.parts import Linear


class ReplacedTokenHead(Head):
    """One logit a token, of having been replaced by what the generator guesses; and the generator, a model by itself
    over the same embedding."""

    def __init__(self, config: ModelConfig, generator: Model) -> None:
        super().__init__()
        std = initial_stds(config).other
        self.generator = generator
        self.dense = Linear(config.width, config.width, bias=True, std=std)
        self.activation = activation(config)
        self.output = Linear(config.width, 1, bias=True, std=std)
        self.output.role = "head"

    def logits(self, hidden_states: Tensor, **batch: Tensor) -> Tensor:
        """[B, S]."""
        return self.output(self.activation(self.dense(hidden_states))).squeeze(-1)

    def forward(self, hidden_states: Tensor, targets: Tensor, **batch: Tensor) -> Output:
        """Mean over each row's tokens of the loss of `replaced` [B, S], true for replaced tokens; a row weighs as much
        as it has targets, those of the generator. Padding, of negative `segments`, counts for nothing."""
        replaced, real = batch["replaced"], batch["segments"] >= 0
        found = self.logits(hidden_states).float()
        each = F.binary_cross_entropy_with_logits(found, replaced.float(), reduction="none")
        sums = {
            "discriminator_loss": (each * real).sum(),
            "discriminator_correct": (((found > 0) == replaced) & real).sum(),
            "discriminated": real.sum(),
            "replaced": replaced.sum(),
        }
        return per_row(mean_where(each, real), targets), (targets != NOT_A_TARGET).sum(), sums


class ReplacedTokenModel(Model):
    """The discriminator, whose backbone reads what its head's generator has written."""

    head: ReplacedTokenHead

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """Loss of the generator at the targets plus the weighted mean loss of the discriminator over all tokens."""
        tokens = batch["tokens"]
        logits = self.head.generator.logits(**batch)
        head = self.head.generator.head
        assert isinstance(head, LanguageHead)
        loss, count, more = token_loss(logits, targets, z_loss=head.z_loss * self.training)
        chosen = targets != NOT_A_TARGET
        drawn = sample(logits.detach(), row_noise(tokens, targets, batch["segments"]))
        batch |= {"tokens": torch.where(chosen, drawn, tokens), "replaced": chosen & (drawn != targets)}
        found, _, sums = super().forward(targets, **batch)
        sums = {"generator_loss": without_added_terms(loss, more), **more, **sums}
        return loss + self.config.generator_weight * found, count, {name: one.detach() for name, one in sums.items()}


def row_noise(tokens: Tensor, targets: Tensor, segments: Tensor) -> Tensor:
    """Uniform in [0, 1), float32 [B, S]: a pure function of each document's own content and places, so that it does not
    depend on ranks, micro-batches or resumes, nor on the documents beside it."""
    place = torch.arange(tokens.shape[1], device=tokens.device)[None]
    zero = torch.zeros_like(place)
    words = philox(torch.zeros_like(place), tokens, targets - NOT_A_TARGET, place, zero)
    number = segments.long().clamp(min=-1) + 1  # of the document, 0 for padding
    sums = torch.zeros(tokens.shape[0], tokens.shape[1] + 1, dtype=torch.int64, device=tokens.device)
    sums.scatter_add_(1, number, words[0] + (words[1] << 31))  # wraps around
    key = sums.gather(1, number) + sums[:, :1]  # what pads the row counts for every document
    return (philox(key, place, zero, zero, zero)[0] >> 8).float() * 2.0**-24


def sample(logits: Tensor, noise: Tensor) -> Tensor:
    """One token per place from softmax(logits) [B, S, V], by the inverse of the cumulative distribution at `noise`."""
    cumulative = logits.float().softmax(dim=-1).cumsum(dim=-1)
    aim = noise.to(cumulative.dtype)[..., None] * cumulative[..., -1:]
    return torch.searchsorted(cumulative, aim, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
