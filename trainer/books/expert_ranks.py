"""Where ranks share experts: what each holds of them, and what travels between them."""

from __future__ import annotations

from trainer.books.experts import FP32, INDEX, routed_numbers, rows
from trainer.books.layout import micro_batch, micro_batches, world_size
from trainer.books.lengths import lengths
from trainer.books.parameters import parameters
from trainer.config import Config
from trainer.config.host import precision
from trainer.config.model import ModelConfig
from trainer.config.recomputation import whole_blocks

BITS = 8  # of a byte


def shared_numbers(config: Config) -> int:
    """Parameters of all experts of all layers that tokens are routed to: what the ranks of a group share."""
    found = 0
    for model, _ in _stacks(config):
        rest = model.model_copy(update={"experts": model.experts.model_copy(update={"count": 0})})
        beside = routed_numbers(rest) + model.experts.count * model.width  # shared experts; the router
        found += model.experts.layers(model.depth) * (routed_numbers(model) - beside)
    return found


def held_numbers(config: Config) -> int:
    """Parameters of the model that one rank holds before ZeRO divides them."""
    total, shared, sharing = parameters(config).total, shared_numbers(config), config.engine.expert_parallel
    return total - shared + shared // sharing


def ring_numbers(config: Config) -> float:
    """Numbers that one rank sends when all gradients are scattered, or all weights gathered, once in a ring: each
    parameter among the ranks that hold it."""
    ranks, sharing = world_size(config), config.engine.expert_parallel
    shared = shared_numbers(config)
    across = ranks // sharing
    dense = (parameters(config).total - shared) * (ranks - 1) / ranks
    return dense + shared / sharing * (across - 1) / across


def token_bytes(config: Config) -> float:
    """Bytes that one rank sends in a step to bring tokens to experts of other ranks and what these make of them back,
    on average over the ranks and with even loads: what a rank computes itself stays."""
    sharing, choice = config.engine.expert_parallel, config.engine.activation_checkpointing
    if sharing == 1:
        return 0.0
    number = 2 if precision(config) == "bf16" else FP32
    sequences = micro_batch(config) * config.task.rows / config.engine.sequence_parallel  # so many positions of them
    total = 0.0
    for model, tokens in _stacks(config):
        routed = sum(model.experts.at(layer) for layer in range(model.depth))
        again = sum(model.experts.at(layer) for layer in whole_blocks(choice, model.depth))
        trained = routed * (1 + config.routes_twice) + again  # forward passes with dropout
        forward, backward = trained + routed * bool(config.task.reference), routed
        pairs = sequences * rows(model, tokens)
        total += 2 * (forward + backward) * pairs * number * model.width  # there and back
        total += forward * INDEX * model.experts.count  # how many come
        if model.dropout_inside and model.hidden_rate:
            total += trained * pairs * -(-model.expert_channels // BITS)  # masks
    return micro_batches(config) * total * (sharing - 1) / sharing


def _stacks(config: Config) -> list[tuple[ModelConfig, int]]:
    """Each stack with experts, and the tokens of a sequence that it reads."""
    model, (source, target) = config.backbone, lengths(config)
    if model.family != "encoder_decoder":
        return [(model, source)]
    return [(model, source), (model.model_copy(update={"depth": model.decoder_side.depth}), target)]
