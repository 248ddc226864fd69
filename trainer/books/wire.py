"""Bytes that one rank sends per optimizer step, by ZeRO stage (Rajbhandari et al. 2020, section 7).

A ring moves (n - 1) / n of a buffer for a reduce-scatter, an all-gather or, on average over ranks, a reduction to one
of them, and twice that for an all-reduce.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from trainer.books.activations import FP32, share_of_blocks
from trainer.books.expert_ranks import held_numbers
from trainer.books.experts import expert_shapes
from trainer.books.layout import micro_batches, world_size, zero_stage
from trainer.books.shapes import shapes
from trainer.config import Config
from trainer.config.host import half_wire
from trainer.config.wire import partition_ranks
from trainer.descriptions.optimizers import OPTIMIZERS, Role, Shape, Shapes, read_in_bf16, size

BF16 = 2
# DeepSpeed's defaults at stage 3, in numbers: what a parameter may have at the most to stay gathered until the update,
# and what may be read between two uses of one for it to stay.
PERSISTS = 100_000
ALL_PERSIST = 2**62  # what a parameter may have there under engine.keep_gathered
REUSED = 1_000_000_000


class Traffic(NamedTuple):
    """Bytes of one kind that one rank sends in a step, to others of a group of so many ranks: consecutive ones, or of
    every so many one."""

    kind: str
    sent: float
    ranks: int
    apart: int = 1


@dataclass(frozen=True)
class WireAccount:
    """What one rank sends in one step."""

    traffic: tuple[Traffic, ...]

    def of(self, kind: str) -> float:
        return sum(one.sent for one in self.traffic if one.kind == kind)

    @property
    def gradients(self) -> float:
        return self.of("gradients")

    @property
    def weights(self) -> float:
        return self.of("weights")

    @property
    def update(self) -> float:
        """In the optimizer's update, on average over ranks."""
        return self.of("update")

    @property
    def total(self) -> float:
        return sum(one.sent for one in self.traffic)

    def within(self, ranks: int) -> float:
        """Of the total, what goes through groups of so many consecutive ranks or fewer, e.g. those of a host."""
        return sum(one.sent for one in self.traffic if one.ranks * one.apart <= ranks)


def wire(config: Config) -> WireAccount:
    """Count one step's traffic of one rank: what ZeRO sends. Experts that ranks share go around those that hold the
    same."""
    sharing, every = config.engine.expert_parallel, shapes(config)
    if sharing == 1:
        return WireAccount(_traffic(config, every, 1))
    experts = {key: count for key, count in every.items() if len(key[1]) == 3}  # [experts, ...]
    dense = {key: count for key, count in every.items() if key not in experts}
    held = {(role, (of // sharing, *rest)): count for (role, (of, *rest)), count in experts.items()}
    return WireAccount((*_traffic(config, dense, 1), *_traffic(config, held, sharing)))


def _traffic(config: Config, held: Shapes, apart: int) -> tuple[Traffic, ...]:
    """Of parameters that ranks hold, every one of so many the same."""
    ranks, stage, passes = world_size(config) // apart, zero_stage(config), micro_batches(config)
    share, numbers = (ranks - 1) / ranks, sum(size(shape) * count for (_, shape), count in held.items())
    gradients = numbers * (BF16 if config.engine.wire_gradients == "bf16" else FP32) * share
    if stage == 0:
        return (Traffic("gradients", 2 * gradients, ranks, apart),)
    gradients *= passes if stage > 1 else 1  # from stage 2 on they are reduced in every micro-batch
    if stage < 3 and _raw(config, "use_multi_rank_bucket_allreduce", False):
        gradients *= 2
    update = OPTIMIZERS[config.optim.name].bytes_sent(held, ranks, stage)
    once, again = _gathered(config, held) if stage == 3 else (sum(_weight_bytes(config, held).values()), 0.0)
    group = partition_ranks(config) // apart  # experts have no partition but all ranks
    return (
        Traffic("gradients", gradients, ranks, apart),
        Traffic("weights", once * share, ranks, apart),
        Traffic("weights", again * (group - 1) / group, group, apart),
        Traffic("update", update, ranks, apart),
    )


def _gathered(config: Config, held: Shapes) -> tuple[float, float]:
    """Bytes of these weights that are gathered in a step of stage 3: the first time, and all other times together."""
    passes, numbers = micro_batches(config), held_numbers(config)
    most = ALL_PERSIST if config.engine.keep_gathered else _raw(config, "param_persistence_threshold", PERSISTS)
    reused = max(_raw(config, "max_reuse_distance", REUSED), _raw(config, "prefetch_bucket_size", 0))
    # A weight at a distance x from the end of the forward pass is read again 2 x later, or 3 x where blocks are
    # recomputed on the way back; one that is recomputed stays for the backward pass, which follows at once.
    near = min(1.0, reused / (2 + share_of_blocks(config)) / numbers)
    often = passes * (2 - near + bool(config.routes_twice))
    # A matrix that is embedding and output at once is read at both ends of both passes.
    both_ends = passes * (1 + 2 * (numbers > reused) + bool(config.routes_twice))
    tied = (config.vocabulary, config.backbone.embedding_channels) if config.backbone.tied else None
    once = again = 0.0
    for (role, shape), found in _weight_bytes(config, held).items():
        # Vectors stand together there; the longest one is about as wide as the model.
        stays = (config.model.width if role == "vector" else size(shape)) <= most
        once += found
        again += 0.0 if stays else ((both_ends if role == "embedding" and shape == tied else often) - 1) * found
    if config.task.reference:  # a frozen model of the same shape, read forward only
        once, again = 2 * once, again + (passes - 1) * once
    return once, again


def _weight_bytes(config: Config, held: Shapes) -> dict[tuple[Role, Shape], int]:
    """Of parameters of each role and shape, all together, on their way."""
    half = half_wire(config)
    routers = {shape for role, shape in expert_shapes(config.model) if role == "head"}
    return {
        (role, shape): count * size(shape) * (BF16 if half and read_in_bf16(role, wide=shape in routers) else FP32)
        for (role, shape), count in held.items()
    }


def _raw(config: Config, name: str, usual: Any) -> Any:
    """What a raw key of DeepSpeed's stage asks for, by either of its names."""
    zero: Any = config.engine.deepspeed.get("zero_optimization") or {}
    given = zero.get(name, zero.get(f"stage3_{name}", usual))
    return usual if given == "auto" else given if isinstance(usual, bool) else float(given)
