"""What one rank computes and moves in one step: the amounts that a clock gives times to."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.books.activations import FP32, saved
from trainer.books.executed import executed
from trainer.books.expert_ranks import held_numbers
from trainer.books.flops import flops
from trainer.books.kernels import attention_backward
from trainer.books.layout import averages_moved, micro_batch, micro_batches, world_size, zero_stage
from trainer.books.lengths import lengths
from trainer.books.linear import fp8_share, scaling_bytes
from trainer.books.links import Flow, flows
from trainer.books.rollouts import rollout_work
from trainer.books.shapes import shapes
from trainer.config import Config
from trainer.descriptions.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class Work:
    """What one rank does in one step."""

    product_flop: float  # linear layers, with recomputation, and of the update
    score_flop: float  # attention scores, with recomputation
    activation_bytes: float  # moved by everything that is no matrix product
    loss_bytes: float  # moved by the loss over the vocabulary
    optimizer_bytes: float
    flows: tuple[Flow, ...]
    layers: int  # blocks passed through, forward and backward: each costs a fixed time
    fp8_flop: float = 0.0  # part of product_flop
    executed: float = 1.0  # share of score_flop that a fused kernel executes, which skips what causality hides
    composed: bool = False  # whether scores are products of their own, with all of them in memory

    @property
    def fused_flop(self) -> float:
        """Of attention scores, what a fused kernel executes."""
        return 0.0 if self.composed else self.score_flop * self.executed

    @property
    def composed_flop(self) -> float:
        """Of attention scores, what single products do."""
        return self.score_flop if self.composed else 0.0


def work(config: Config) -> Work:
    """Count one rank's step."""
    ranks, account = world_size(config), flops(config, attention_backward(config))
    model, passes = config.model, micro_batches(config)
    scores = 3 * account.scores * account.samples_per_step / ranks
    recomputed = account.recomputed_per_step / ranks
    share = account.scores / max(account.forward_sample, 1)
    products = account.per_step / ranks - scores + recomputed * (1 - share)
    sequences = micro_batch(config) * config.task.rows
    kept = saved(config, sequences, *lengths(config))
    count = held_numbers(config)
    optimizer, divided_by = OPTIMIZERS[config.optim.name], ranks if zero_stage(config) else 1
    states = optimizer.numbers(shapes(config))
    rollouts = rollout_work(config, passes)
    update = sum(optimizer.flop(role, shape) * many for (role, shape), many in shapes(config).items())
    return Work(
        product_flop=products + update / divided_by,
        score_flop=scores + recomputed * share,
        # What is kept is written once and read twice, its gradient written and read; what is not is written again.
        activation_bytes=passes * (3 * (kept.blocks + kept.around + kept.weight_copies) + kept.computed_again)
        + passes * scaling_bytes(config, sequences)
        + rollouts.bytes,
        loss_bytes=passes * kept.logits,
        # Weights, gradients and states are read, all but the gradients written (a fused update), and one more pass over
        # the gradients for their norm; gradients are added up once a micro-batch.
        optimizer_bytes=FP32
        * ((5 * count + 2 * states) / divided_by + 3 * passes * count + averages_moved(config) * count / ranks),
        flows=flows(config),
        layers=passes * (model.depth + (model.decoder_side.depth if model.family == "encoder_decoder" else 0))
        + rollouts.layers,
        fp8_flop=products * fp8_share(config),
        executed=executed(config),
        composed=attention_backward(config) == "composed",
    )


def generation_work(config: Config) -> Work:
    """One rank's share of writing a step's answers, which is part of `work`."""
    rollouts, account = rollout_work(config, micro_batches(config)), flops(config)
    product = account.rollouts.generation / world_size(config)
    return Work(product, 0.0, rollouts.bytes, 0.0, 0.0, (), rollouts.layers)
