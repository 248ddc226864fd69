"""Memory of one rank: model states exactly as ZeRO divides them, activations by a simple count."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.books.layout import micro_batch, world_size, zero_stage
from trainer.books.parameters import parameters
from trainer.config import Config


@dataclass(frozen=True)
class MemoryAccount:
    """Bytes on one rank's device at the peak, by purpose."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def memory(config: Config) -> MemoryAccount:
    """Estimate of one rank's memory (Rajbhandari et al. 2020, section 3, for the states)."""
    count, ranks, stage = (
        parameters(config).total,
        world_size(config),
        zero_stage(config),
    )
    low_precision = config.engine.precision == "bf16"
    width = 2 if low_precision else 4

    weights = count * 4 // (ranks if stage == 3 else 1)
    gradients = count * 4 // (ranks if stage >= 2 else 1)
    optimizer = count * 8 // (ranks if stage >= 1 else 1)
    if config.engine.offload_parameters:
        weights = 0
    if config.engine.offload_optimizer:
        optimizer = 0

    model, tokens = config.model, micro_batch(config) * config.data.sequence_length
    query, key = (
        model.heads * model.head_channels,
        model.key_heads * model.head_channels,
    )
    hidden = model.ffn_channels * (4 if model.gated else 2)
    one_block = tokens * width * (4 * model.width + 2 * query + 2 * key + hidden) + tokens * 4 * 2 * model.width
    if config.engine.activation_checkpointing:
        activations = model.depth * tokens * model.width * width + one_block
    else:
        activations = model.depth * one_block
    logits = tokens * config.vocabulary * (4 + 4 + width)
    return MemoryAccount(weights, gradients, optimizer, activations, logits)
