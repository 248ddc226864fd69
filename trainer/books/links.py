"""Which links a step's traffic crosses: those inside a host, and those between hosts.

Who talks with whom follows from the layout: weights and gradients go around rings of all ranks or of a partition, the
sequences of a group all to all over heads (Jacobs et al. 2023, DeepSpeed-Ulysses) or around a ring (Liu et al. 2023),
tokens to their experts all to all. Groups are of consecutive ranks, and a host holds `hosted` of them.

A ring over several hosts is laid so that it enters and leaves each of them once, and a host with h of its ranks runs h
such rings at a time, one a port (as NCCL does): each rank sends 1 / h of its bytes through its own port, the rest
inside. All to all, a rank sends every other one its own piece: what is for other hosts goes through its port.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.books import kernels
from trainer.books.activations import FP32, share_of_blocks
from trainer.books.expert_ranks import token_bytes
from trainer.books.experts import INDEX
from trainer.books.layout import micro_batch, micro_batches, world_size
from trainer.books.lengths import lengths
from trainer.books.wire import wire
from trainer.config import Config, MachineConfig
from trainer.config.host import precision
from trainer.config.model import ModelConfig
from trainer.config.placement import ranks_per_host

SEGMENT = 4  # bytes of an int32


@dataclass(frozen=True)
class Flow:
    """What one rank sends in a step within groups of ranks, on average over the ranks."""

    name: str  # states, experts (states of theirs), sequences, batches (their samples), tokens
    bytes: float
    ranks: int  # of a group
    hosted: int  # of these on one host
    ring: bool  # else all to all
    hides: bool  # under what is computed meanwhile; what the next operation waits for does not

    @property
    def between(self) -> float:
        """Bytes of these that leave the host."""
        if self.ranks <= self.hosted:
            return 0.0
        return self.bytes / self.hosted if self.ring else self.bytes * (self.ranks - self.hosted) / (self.ranks - 1)

    def seconds(self, machine: MachineConfig, share: float = 1.0) -> float | None:
        """At such a share of the links' bandwidths; None where one that is needed is not stated."""
        inside, network = machine.link_bandwidth, machine.network_bandwidth
        if self.ranks <= self.hosted:
            return self.bytes / (share * inside) if inside else None
        if network is None:
            return None
        if self.ring:  # what enters a host enters once, through all of its ports, and is passed on inside
            ports = self.hosted * network
            return self.bytes / (share * (ports if inside is None else min(inside, ports)))
        stays = (self.bytes - self.between) / (share * inside) if inside else 0.0
        return max(stays, self.between / (share * network))  # both at a time


def flows(config: Config) -> tuple[Flow, ...]:
    """All traffic of one step, of one rank."""
    if world_size(config) == 1:
        return ()
    found = [*_states(config), *_sequences(config), *_tokens(config)]
    return tuple(flow for flow in found if flow.bytes)


def bytes_sent(config: Config) -> float:
    """By one rank in one step."""
    return sum(flow.bytes for flow in flows(config))


def bytes_between(config: Config) -> float:
    """Of these, to other hosts."""
    return sum(flow.between for flow in flows(config))


def _consecutive(config: Config, size: int) -> tuple[int, int]:
    """Consecutive ranks: (ranks of a group, of these on one host)."""
    return size, min(size, ranks_per_host(config))


def _across(config: Config, size: int) -> tuple[int, int]:
    """The ranks that have the same place in groups of `size` consecutive ones: (ranks, of these on one host)."""
    ranks = world_size(config) // size
    return ranks, min(ranks, max(1, ranks_per_host(config) // size))


def _states(config: Config) -> list[Flow]:
    """Gradients, weights and what the update moves, as `wire` counts them; experts go around those that hold them."""
    sent = dict[tuple[int, int], float]()
    for one in wire(config).traffic:
        sent[one.ranks, one.apart] = sent.get((one.ranks, one.apart), 0.0) + one.sent
    return [
        Flow("states", bytes_, *_consecutive(config, ranks), ring=True, hides=True)
        if apart == 1
        else Flow("experts", bytes_, *_across(config, apart), ring=True, hides=True)
        for (ranks, apart), bytes_ in sent.items()
    ]


def _sequences(config: Config) -> list[Flow]:
    """Of ranks that share sequences: by heads, queries, keys with values and the output change places; around a ring
    keys and values go, in the backward pass with their gradients in fp32. Each way again for the gradients, and once
    more for blocks that are computed again."""
    sharing, passes = config.engine.sequence_parallel, micro_batches(config)
    if sharing == 1:
        return []
    low, sequences = _low(config), passes * micro_batch(config) * config.task.rows
    source, target = (-(-length // sharing) for length in lengths(config))
    model, uses = config.backbone, list[tuple[ModelConfig, int, int]]()  # a stack, positions of queries and of keys
    uses += [(model, source, source)] * model.depth
    if target:
        side = model.decoder_side
        uses += [(side, target, target), (side, target, source)] * side.depth
    sent, ulysses = 0.0, config.engine.sequence_kind == "ulysses"
    for side, queries, keys in uses:
        query, key = side.heads * side.head_channels, side.key_heads * side.head_channels
        if ulysses:
            repeated = math.lcm(side.key_heads, sharing) * side.head_channels
            once = low * 2 * (queries * query + keys * repeated) * (sharing - 1) / sharing
            sent += (2 + share_of_blocks(config)) * once
        else:
            once = low * 2 * keys * key * (sharing - 1)
            sent += (2 + share_of_blocks(config)) * once + FP32 * 2 * keys * key * sharing
    group = _consecutive(config, sharing)
    return [
        Flow("sequences", sequences * sent, *group, ring=not ulysses, hides=not ulysses),
        Flow("batches", sequences * _sample_bytes(config) * (sharing - 1) / sharing, *group, ring=True, hides=False),
    ]


def _sample_bytes(config: Config) -> int:
    """Of one sample as the first rank of a group sends it to the others: on each side tokens, positions (int64) and the
    documents' numbers (int32), the targets, and what the model or the objective reads beside these."""
    (source, target), model = lengths(config), config.model
    each = 2 * INDEX + SEGMENT
    last = INDEX + (SEGMENT if kernels.ordered(config) else 0) + (INDEX if model.languages else 0)
    return each * (source + target) + last * (target or source) + INDEX


def _tokens(config: Config) -> list[Flow]:
    """Tokens on their way to experts and back, and their gradients."""
    sharing = config.engine.expert_parallel
    return [Flow("tokens", token_bytes(config), *_consecutive(config, sharing), ring=False, hides=False)]


def _low(config: Config) -> int:
    return 2 if precision(config) == "bf16" else FP32
