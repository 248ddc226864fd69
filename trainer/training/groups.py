"""Process groups of ranks beside that of all: consecutive ones, which share something, and those across them.

Of 8 ranks in groups of 4, rank 5 is in (4, 5, 6, 7) and across them in (1, 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch.distributed as dist


@dataclass(frozen=True)
class Group:
    """Some ranks of the world, this one among them. handle: torch's group; None: this rank alone."""

    ranks: tuple[int, ...]
    rank: int  # of this process, in the group
    handle: dist.ProcessGroup | None

    @property
    def size(self) -> int:
        return len(self.ranks)


@lru_cache(maxsize=64)
def consecutive(size: int) -> Group:
    """The `size` consecutive ranks with this one, which all ranks ask for alike, in the same order. Collective."""
    world = dist.get_world_size()
    return _made(tuple(tuple(range(first, first + size)) for first in range(0, world, size)))


@lru_cache(maxsize=64)
def across(size: int) -> Group:
    """The ranks that have this one's place in the groups of `size` consecutive ones. Collective."""
    world = dist.get_world_size()
    return _made(tuple(tuple(range(place, world, size)) for place in range(size)))


def _made(groups: tuple[tuple[int, ...], ...]) -> Group:
    me, found = dist.get_rank(), None
    for ranks in groups:
        handle = dist.new_group(list(ranks)) if len(ranks) > 1 else None  # every rank makes every group
        if me in ranks:
            found = Group(ranks, ranks.index(me), handle)
    assert found is not None, f"rank {me} is in none of {groups}"
    return found
