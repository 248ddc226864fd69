"""Groups of consecutive ranks and across them, of the world that there is."""

from __future__ import annotations

import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from trainer.training.groups import across, consecutive


def test_each_world_has_groups_of_its_own() -> None:
    seen = []
    for world, rank in ((4, 1), (8, 5), (4, 3)):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
        try:
            near, far = consecutive(2), across(2)
            assert near is consecutive(2) and far is across(2)
            assert near.ranks == (rank - 1, rank) and near.rank == 1 and near.size == 2
            assert far.ranks == tuple(range(1, world, 2)) and far.ranks[far.rank] == rank
            for group in (near, far):
                assert tuple(dist.get_process_group_ranks(group.handle)) == group.ranks  # of this world
            seen.append(near.handle)
        finally:
            dist.destroy_process_group()
    assert len({id(one) for one in seen}) == 3
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    assert consecutive(1).handle is None and across(1).ranks == (0, 1)
    dist.destroy_process_group()
