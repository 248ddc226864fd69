"""Bytes that one rank sends per optimizer step, by ZeRO stage (Rajbhandari et al. 2020, section 7).

A ring moves (n - 1) / n of a buffer for a reduce-scatter or an all-gather, and twice that for an all-reduce. Weights
and gradients travel in fp32, as the engine keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.books.activations import FP32, share_of_blocks
from trainer.books.layout import micro_batches, world_size, zero_stage
from trainer.books.parameters import parameters
from trainer.books.shapes import shapes
from trainer.config import Config
from trainer.descriptions.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class WireAccount:
    """Bytes sent by one rank in one step."""

    gradients: float
    weights: float
    update: float = 0.0  # in the optimizer's update, on average over ranks

    @property
    def total(self) -> float:
        return self.gradients + self.weights + self.update


def wire(config: Config) -> WireAccount:
    """Count one step's traffic of one rank."""
    ranks, stage, passes = world_size(config), zero_stage(config), micro_batches(config)
    once = FP32 * parameters(config).total * (ranks - 1) / ranks
    if stage == 0:
        return WireAccount(2 * once, 0.0)
    update = OPTIMIZERS[config.optim.name].bytes_sent(shapes(config), ranks, stage)
    if stage == 1:
        return WireAccount(once, once, update)
    if stage == 2:  # gradients are reduced in every micro-batch
        return WireAccount(passes * once, once, update)
    gathered = 2 + share_of_blocks(config)  # forward, backward, and again to recompute
    return WireAccount(passes * once, gathered * passes * once, update)
