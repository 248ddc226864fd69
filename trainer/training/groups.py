"""Process groups of ranks beside that of all: consecutive ones, which share something, and those across them.

Of 8 ranks in groups of 4, rank 5 is in (4, 5, 6, 7) and across them in (1, 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch.distributed as dist

# (kind, size) -> what was made, of each world: another one that this process joins later has groups of its own.
_GROUPS: WeakKeyDictionary[dist.ProcessGroup, dict[tuple[str, int], Group]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Group:
    """Some ranks of the world, this one among them. handle: torch's group; None: this rank alone."""

    ranks: tuple[int, ...]
    rank: int  # of this process, in the group
    handle: dist.ProcessGroup | None

    @property
    def size(self) -> int:
        return len(self.ranks)


def consecutive(size: int) -> Group:
    """The `size` consecutive ranks with this one, which all ranks ask for alike, in the same order. Collective."""
    world = dist.get_world_size()
    return _once("consecutive", size, [tuple(range(first, first + size)) for first in range(0, world, size)])


def across(size: int) -> Group:
    """The ranks that have this one's place in the groups of `size` consecutive ones. Collective."""
    world = dist.get_world_size()
    return _once("across", size, [tuple(range(place, world, size)) for place in range(size)])


def _once(kind: str, size: int, groups: Sequence[tuple[int, ...]]) -> Group:
    world = dist.group.WORLD
    assert world is not None, "no process group"
    known = _GROUPS.setdefault(world, {})
    if (kind, size) not in known:
        known[kind, size] = _made(groups)
    return known[kind, size]


def _made(groups: Sequence[tuple[int, ...]]) -> Group:
    me, found = dist.get_rank(), None
    for ranks in groups:
        handle = dist.new_group(list(ranks)) if len(ranks) > 1 else None  # every rank makes every group
        if me in ranks:
            found = Group(ranks, ranks.index(me), handle)
    assert found is not None, f"rank {me} is in none of {groups}"
    return found
