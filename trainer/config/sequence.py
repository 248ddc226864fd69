"""What `engine.sequence_parallel` is not for, and the numbers of ranks that would do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from trainer.config.division import group_sizes

KEY = "engine.sequence_parallel"


def sequence_misfits(config: Any) -> list[str]:
    """What ranks that share their sequences cannot do in this run: a line each."""
    if config.engine.sequence_parallel == 1:
        return []
    return [*_numbers(config), *_parts(config), *_of_ring(config)]


def chunks(config: Any) -> int:
    """Equal parts of a sequence: of a ring each rank holds two where tokens see only what lies before them."""
    ranks: int = config.engine.sequence_parallel
    return ranks * (2 if zigzag(config) else 1)


def in_a_ring(config: Any) -> bool:
    """Whether keys and values go around the ranks of a group, so that attention is merged by its log-sum-exps."""
    return config.engine.sequence_parallel > 1 and config.engine.sequence_kind == "ring"


def zigzag(config: Any) -> bool:
    """Whether a rank holds a part from the front of a sequence and its mirror image from the end."""
    return config.engine.sequence_kind == "ring" and config.model.family != "encoder"


def _numbers(config: Any) -> Iterator[str]:
    shared, ranks, parts = config.engine.sequence_parallel, config.launch.ranks, chunks(config)
    if ranks % shared:
        yield f"{KEY}: {shared} does not divide launch.processes x nodes = {ranks}; {_fitting(config)} would do"
    for name, length in config._stated_lengths().items():
        if length % parts:
            lower, held = length // parts * parts, "chunks of 2 to a rank" if parts > shared else "ranks"
            near = " or ".join(str(one) for one in (lower, lower + parts) if one)
            yield f"{name}: {parts} {held} ({KEY}={shared}) do not divide {length} tokens; {near} would do"
    if config.engine.sequence_kind == "ulysses" and config.model.heads % shared:
        yield (
            f"{KEY}: {shared} does not divide model.heads {config.model.heads}, which ulysses exchanges; "
            f"{_fitting(config)} would do, or engine.sequence_kind=ring"
        )


def shareable(config: Any) -> int:
    """What the number of ranks must divide beside all ranks: heads that are exchanged, and tokens of each length."""
    parts = chunks(config) // config.engine.sequence_parallel
    heads = [config.model.heads] if config.engine.sequence_kind == "ulysses" else []
    return math.gcd(*heads, *(length // parts for length in config._stated_lengths().values()))


def _fitting(config: Any) -> int:
    """The largest number of ranks, no larger than the one asked for, that divides all there is to divide."""
    asked: int = config.engine.sequence_parallel
    return max(one for one in group_sizes(config.launch, shareable(config)) if one <= asked)


def _parts(config: Any) -> Iterator[str]:
    """Parts of a run that ask for whole sequences on one rank."""
    model, objective, engine, off = config.model, config.objective, config.engine, f"leave {KEY}=1"
    if config.task.kind is not None:
        yield f"{KEY}: only pre-training shares sequences, task={config.task.name} reads its own records; {off}"
    if config.data.tasks:
        yield f"{KEY}: not with labelled tasks beside the text (data.tasks); {off}"
    if model.position == "relative":
        yield f"{KEY}: not with model.position=relative, whose scores are of all pairs of tokens; {off}"
    if model.generator_width is not None:
        yield f"{KEY}: not with a generator (model.generator_width), which draws from whole sequences; {off}"
    if model.experts.count and (model.experts.capacity is not None or model.experts.limit is not None):
        yield f"{KEY}: not with a capacity of experts, which is filled in the order of whole sequences; {off}"
    if model.sentence_head and objective.description.reads_pairs(objective):
        yield (
            f"{KEY}: not with a question about pairs, which is asked of the first token; take objective=masked_lm, "
            f"or {off}"
        )
    if engine.compile is True:
        yield f"engine.compile: not with {KEY}={engine.sequence_parallel}; leave engine.compile=auto"
    if config.debug.noise_every is not None:
        yield f"debug.noise_every: the gradients of ranks that share sequences are no samples of their own; {off}"


def _of_ring(config: Any) -> Iterator[str]:
    """What a ring cannot merge."""
    if config.engine.sequence_kind != "ring":
        return
    model, backend, ulysses = config.model, config.kernels.attention, "take engine.sequence_kind=ulysses"
    if backend == "sdpa":
        yield (
            "kernels.attention: sdpa tells no log-sum-exp, by which a ring merges its parts; choose auto, triton or "
            f"reference, or {ulysses}"
        )
    if model.position == "disentangled":
        yield f"engine.sequence_kind: ring has no model.position=disentangled, scores of all pairs; {ulysses}"
    alone = [f"model.position={model.position}"] if model.position in ("alibi", "buckets") else []
    alone += ["model.attention_dropout"] if model.attention_rate else []
    for name in alone:
        if backend != "reference":
            yield (
                f"engine.sequence_kind: ring has {name} in kernels.attention=reference alone, {backend} given; "
                f"{ulysses}, or that backend"
            )
