"""What ranks send each other of weights and gradients: the keys `wire`, `wire_gradients`, `keep_gathered` and
`partition` of the group `engine`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.config.recomputation import keeps_casts

STAGES = "engine.zero_stage=1, 2 or 3"


def partition_ranks(config: Any) -> int:
    """Ranks that weights are gathered from once each has its share of a second copy; all ranks: there is none."""
    asked, launch = config.engine.partition, config.launch
    ranks: int = {"world": launch.ranks, "node": launch.processes}.get(asked, asked)
    return ranks


def stays_half(config: Any) -> bool:
    """Whether weights that travel in bf16 at stages 1 and 2 are kept in bf16 too, on every rank: where that changes no
    bit of a gradient. It would where autocast's copy of a weight is read twice in a pass, so that what it gets adds up
    in bf16, and where gradients add up on the host in the dtype of their parameter."""
    engine, model = config.engine, config.backbone
    twice = keeps_casts(engine) and (model.shared_layers or config.two_streams or config.task.kind is not None)
    return engine.wire == "bf16" and not (twice or engine.offload_optimizer)


def wire_misfits(config: Any) -> list[str]:
    """What cannot be had together: a line each."""
    engine, ranks = config.engine, config.launch.ranks
    stage = engine.zero_stage if engine.zero_stage is not None else int(ranks > 1)
    return [*_dtype_misfits(engine, stage), *_gathering_misfits(engine, stage), *_partition_misfits(config, stage)]


def _dtype_misfits(engine: Any, stage: int) -> Iterator[str]:
    for name in ("wire", "wire_gradients"):
        if getattr(engine, name) == "bf16" and stage == 0:
            given = "0 given" if engine.zero_stage == 0 else "and one rank is at stage 0"
            yield f"engine.{name}: bf16 is for {STAGES}, {given}; take engine.zero_stage=1, or leave engine.{name}=fp32"
    if engine.wire != "bf16":
        return
    if engine.precision == "fp32":
        yield (
            "engine.wire: bf16 needs bf16 products, engine.precision=fp32 given; take engine.precision=bf16, or leave "
            "engine.wire=fp32"
        )
    if engine.linear == "fp8":
        yield (
            "engine.wire: bf16 rounds weights that engine.linear=fp8 rounds to 8 bits from fp32; leave engine.wire="
            "fp32, or engine.linear=bf16"
        )


def _gathering_misfits(engine: Any, stage: int) -> Iterator[str]:
    if not engine.keep_gathered:
        return
    if stage != 3:
        yield (
            f"engine.keep_gathered: only engine.zero_stage=3 gathers weights, {stage} given; take engine.zero_stage=3, "
            "or leave engine.keep_gathered=false"
        )
    if engine.offload_parameters:
        yield "engine.keep_gathered: engine.offload_parameters=true keeps weights in the host's memory; leave one"


def _partition_misfits(config: Any, stage: int) -> Iterator[str]:
    engine, launch = config.engine, config.launch
    asked, size, ranks = engine.partition, partition_ranks(config), launch.ranks
    if asked == "world":
        return
    if stage != 3:
        yield (
            f"engine.partition: only engine.zero_stage=3 divides weights, {stage} given; take engine.zero_stage=3, or "
            "leave engine.partition=world"
        )
        return
    if engine.offload_parameters:
        yield (
            "engine.partition: a second copy of the weights is on the device, engine.offload_parameters=true keeps "
            "them in the host's memory; leave one"
        )
    if size > ranks == 1:
        yield f"engine.partition: one rank holds all weights by itself, {asked} given; leave engine.partition=world"
    elif size == 1 and ranks > 1:
        yield f"engine.partition: {asked} is every rank by itself, with all weights; take engine.zero_stage=2 for that"
    elif not _fits(size, launch):
        near = min(_fitting(launch), key=lambda one: (abs(one - size), one))
        whole = f"launch.nodes {launch.nodes} x launch.processes {launch.processes}" if launch.nodes > 1 else str(ranks)
        yield (
            f"engine.partition: groups of {size} ranks do not divide {whole} ranks into parts of a host or whole "
            f"hosts; take engine.partition={near}"
        )


def _fits(size: int, launch: Any) -> bool:
    """Whether groups of so many ranks lie inside a host or are whole hosts, and divide all ranks."""
    hosts, rest = divmod(size, launch.processes)
    return launch.processes % size == 0 or (rest == 0 and launch.nodes % hosts == 0)


def _fitting(launch: Any) -> list[int]:
    """Sizes of groups that lie inside a host or are whole hosts, and divide all ranks."""
    inside = [size for size in range(2, launch.processes + 1) if launch.processes % size == 0]
    hosts = [launch.processes * count for count in range(1, launch.nodes + 1) if launch.nodes % count == 0]
    return sorted({*inside, *hosts})
