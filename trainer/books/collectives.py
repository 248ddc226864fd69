"""Latency of collectives: how many there are in a step, and what each costs whatever its size.

Of n ranks on H hosts a ring takes n - 1 steps, of which H cross hosts (Thakur et al. 2005, section 4; NCCL's rings go
through each host once), an all-reduce twice as many; where ranks are many, an all-reduce goes up and down a tree of
hosts instead, 2 log2 H steps between them (NCCL since 2.4). All to all is one step inside and one outside for each pair
of hosts' worth of ranks. A rank waits for the slowest in each of them, so this time hides under nothing.
"""

from __future__ import annotations

import math

from trainer.books.layout import micro_batches, reduce_bucket, world_size, zero_stage
from trainer.books.parameters import parameters
from trainer.config import Config
from trainer.config.placement import ranks_per_host
from trainer.config.recomputation import any_block

# Seconds of a step, fitted to llm-foundry's rows of one model on 16 to 512 GPUs (`scripts/results/efficiency`): 3 us
# a rank and collective, as in NCCL's own latency of rings inside a host and over InfiniBand.
INSIDE, OUTSIDE = 1.5e-6, 13.5e-6
LAUNCH = 15e-6  # of the collective itself


def ring_seconds(ranks: int, hosted: int) -> float:
    """Of one all-gather or reduce-scatter over `ranks`, `hosted` of them on a host."""
    if ranks == 1:
        return 0.0
    hosts = -(-ranks // hosted)
    crossing = hosts if hosts > 1 else 0
    return LAUNCH + (ranks - 1 - crossing) * INSIDE + crossing * OUTSIDE


def all_reduce_seconds(ranks: int, hosted: int) -> float:
    """Of one all-reduce: twice around the ring, or up and down a tree of hosts, whichever is less."""
    if ranks == 1:
        return 0.0
    hosts = -(-ranks // hosted)
    tree = LAUNCH + 2 * (min(ranks, hosted) - 1) * INSIDE + 2 * math.ceil(math.log2(hosts)) * OUTSIDE
    return min(2 * ring_seconds(ranks, hosted) - LAUNCH, tree)


def all_to_all_seconds(ranks: int, hosted: int) -> float:
    """Of one exchange of every rank with every other: pairs are at work at a time, hosts one after another."""
    hosts = -(-ranks // hosted)
    return 0.0 if ranks == 1 else LAUNCH + (min(ranks, hosted) - 1) * INSIDE + (hosts - 1) * OUTSIDE


def counts(config: Config) -> dict[str, int]:
    """Collectives of one step, by kind: all_reduce, gather (and scatter), and all_to_all."""
    stage, passes = zero_stage(config), micro_batches(config)
    if world_size(config) == 1:
        return {}
    buckets = max(1, math.ceil(parameters(config).total / reduce_bucket(config)))
    found = {"all_reduce": 1, "gather": 0, "all_to_all": 0}  # the norm of the gradients
    if stage == 0:
        found["all_reduce"] += buckets
    elif stage < 3:
        found["gather"] += buckets * (passes if stage > 1 else 1) + buckets  # gradients, then the updated weights
    else:  # each layer and what is around them: forward, backward, and the gradients
        layers = _layers(config) + 2
        gathers = 1 if config.engine.keep_gathered else 2 * passes
        found["gather"] += layers * (gathers + passes)
    again = 1 + any_block(config.engine.activation_checkpointing)
    if config.engine.sequence_parallel > 1:
        found["all_to_all"] += _layers(config) * passes * 2 * (2 + (again - 1))
    if config.engine.expert_parallel > 1:
        found["all_to_all"] += config.model.experts.layers(config.model.depth) * passes * 2 * (2 + (again - 1))
    return found


def latency_seconds(config: Config) -> float:
    """Of all collectives of one step, by themselves; none where one rank computes."""
    ranks, hosted = world_size(config), ranks_per_host(config)
    found = counts(config)
    if not found:
        return 0.0
    shared = max(config.engine.sequence_parallel, config.engine.expert_parallel)
    return (
        found["all_reduce"] * all_reduce_seconds(ranks, hosted)
        + found["gather"] * ring_seconds(ranks, hosted)
        + found["all_to_all"] * all_to_all_seconds(shared, hosted)
    )


def _layers(config: Config) -> int:
    model = config.backbone
    return model.depth + (model.decoder_side.depth if model.family == "encoder_decoder" else 0)
