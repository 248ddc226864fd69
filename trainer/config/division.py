"""How the work of a step is divided over ranks: groups for sequences, for experts, and for the weights of a step.

A group is of consecutive ranks, so that it lies inside a host where its size divides the ranks of one.
"""

from __future__ import annotations

import math
from typing import Any


def a_partition(value: Any) -> Any:
    """world, node or a number of ranks. Raises ValueError."""
    if value in ("world", "node") or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"{value!r} given; world, node or a number of ranks wanted")


def group_sizes(launch: Any, common: int) -> list[int]:
    """Sizes of groups that divide the ranks and `common`, and lie inside a host or are whole hosts, from 1 up."""
    both = math.gcd(launch.ranks, common)
    sizes = (one for one in range(1, both + 1) if both % one == 0)
    return [one for one in sizes if launch.processes % one == 0 or one % launch.processes == 0]


def data_ranks(config: Any) -> int:
    """Groups of ranks that read different samples: each rank alone where none share their sequences. At least one, also
    of numbers that do not fit each other."""
    ranks: int = config.launch.ranks // config.engine.sequence_parallel
    return max(1, ranks)
