"""What must fit where ranks share experts (`engine.expert_parallel`)."""

from __future__ import annotations

from typing import Any

from trainer.config.division import group_sizes

# Raw keys of DeepSpeed that would treat an expert's gradient or weights as if every rank had it.
OF_ALL_RANKS = {
    "reduce_scatter": (False, "adds up each expert's gradient with those of others"),
    "zero_hpz_partition_size": (None, "copies weights within a node"),
    "zero_quantized_gradients": (True, "sends gradients to all ranks"),
}


def expert_rank_misfits(config: Any) -> list[str]:
    """A line for each thing that is wrong."""
    sharing, experts = config.engine.expert_parallel, config.model.experts.count
    if sharing == 1:
        return []
    if not experts:
        return [
            f"engine.expert_parallel: {sharing} ranks cannot share experts where model.experts.count=0 has none; "
            "engine.expert_parallel=1 would do"
        ]
    wrong, ranks = [], config.launch.ranks
    near = min(group_sizes(config.launch, experts), key=lambda one: (abs(one - sharing), one))
    if ranks % sharing:
        named = f"{ranks} ranks are" if ranks > 1 else "1 rank is"
        wrong.append(
            f"engine.expert_parallel: {named} no whole number of groups of {sharing}; engine.expert_parallel={near} "
            "would do"
        )
    if experts % sharing:
        wrong.append(
            f"engine.expert_parallel: {sharing} ranks cannot share {experts} experts evenly (model.experts.count); "
            f"engine.expert_parallel={near} would do"
        )
    if config.engine.partition != "world":
        wrong.append(
            f"engine.partition: {config.engine.partition} is not to be had with engine.expert_parallel: an expert's "
            "weights are on the ranks that hold it alone; engine.partition=world would do"
        )
    if config.debug.noise_every is not None:
        wrong.append(
            "debug.noise_every: with engine.expert_parallel an expert's gradient is of the micro-batches of several "
            "ranks at once; leave it, or engine.expert_parallel=1"
        )
    if config.task.writes:
        wrong.append(
            "engine.expert_parallel: a policy writes on each rank by itself, with all its experts; "
            "engine.expert_parallel=1 would do"
        )
    return wrong + _raw(config.engine.deepspeed.get("zero_optimization"))


def _raw(zero: Any) -> list[str]:
    if not isinstance(zero, dict):
        return []
    return [
        f"engine.deepspeed.zero_optimization.{name}: {zero[name]!r} {why}; leave it with engine.expert_parallel"
        for name, (bad, why) in OF_ALL_RANKS.items()
        if name in zero and (bad is None or zero[name] is bad)
    ]
