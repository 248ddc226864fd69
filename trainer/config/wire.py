"""What ranks send each other of weights and gradients: the keys `wire`, `wire_gradients`, `keep_gathered` and
`partition` of the group `engine`."""

from __future__ import annotations

from typing import Any


def partition_ranks(config: Any) -> int:
    """Ranks that weights are gathered from once each has its share of a second copy; all ranks: there is none."""
    asked, launch = config.engine.partition, config.launch
    ranks: int = {"world": launch.ranks, "node": launch.processes}.get(asked, asked)
    return ranks
