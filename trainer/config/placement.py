"""Where the ranks of a group lie: inside a host, or on several.

Ranks are numbered host by host, and a group is of consecutive ones. So it lies inside a host where its size divides the
ranks of one, and is made of whole hosts where these divide its size.
"""

from __future__ import annotations

from typing import Any

from trainer.config.division import group_sizes
from trainer.config.sequence import shareable
from trainer.config.wire import partition_ranks


def ranks_per_host(config: Any) -> int:
    """Of the ranks on one node, those that share the links inside a host of the machine."""
    processes, devices = config.launch.processes, config.machine.devices_per_host
    hosted: int = processes if devices is None else min(processes, devices)
    return hosted


def groups(config: Any) -> dict[str, int]:
    """Key of the engine -> ranks of its groups, where that is more than one and fewer than all."""
    engine = config.engine
    sizes = {
        "engine.sequence_parallel": engine.sequence_parallel,
        "engine.expert_parallel": engine.expert_parallel,
        "engine.partition": partition_ranks(config) if engine.partition != "world" else 1,
    }
    return {key: size for key, size in sizes.items() if size > 1}


def placement_misfits(config: Any) -> list[str]:
    """A line for each group that would lie partly on one host and partly on another, and for one that a lost host would
    tear."""
    launch, wrong = config.launch, []
    for key, size in groups(config).items():
        inside, whole = launch.processes % size == 0, size % launch.processes == 0
        if launch.ranks % size or inside or key == "engine.partition":  # what says so by itself
            pass
        elif not whole:
            divided = shareable(config) if key == "engine.sequence_parallel" else config.model.experts.count
            near = [str(one) for one in group_sizes(launch, divided) if one <= launch.processes]
            wrong.append(
                f"{key}: groups of {size} consecutive ranks do not match nodes of launch.processes={launch.processes}: "
                f"some would lie on parts of two; {', '.join(near)} would do"
            )
        if whole and not inside and launch.min_nodes not in (None, launch.nodes):
            wrong.append(
                f"launch.min_nodes: {key} has groups of {size // launch.processes} nodes, which a lost one would tear; "
                f"leave it, or take groups of {launch.processes} ranks at most"
            )
    return wrong


def crossing_line(config: Any) -> str | None:
    """What is to be said of groups that lie on several hosts; None where all lie inside one."""
    hosted = ranks_per_host(config)
    wide = [f"{key}={size}" for key, size in groups(config).items() if size > hosted]
    if not wide:
        return None
    return f"{' and '.join(wide)}: more ranks than a host has ({hosted}), so that they talk over the network"
