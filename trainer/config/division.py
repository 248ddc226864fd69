"""How the work of a step is divided over ranks.

A group is of consecutive ranks, so that it lies inside a host where its size divides the ranks of one.
"""

from __future__ import annotations

from typing import Any


def a_partition(value: Any) -> Any:
    """world, node or a number of ranks. Raises ValueError."""
    if value in ("world", "node") or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"{value!r} given; world, node or a number of ranks wanted")
