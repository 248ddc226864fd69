"""What all ways to share sequences have in common."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor

from trainer.models.sequence.slices import Slices
from trainer.models.sequence.whole import Sequences


class Shared(Sequences):
    """Sequences that the ranks of a group hold together."""

    def __init__(self, group: dist.ProcessGroup, rank: int, ranks: int, *, zigzag: bool = False) -> None:
        """The ranks that share each sequence, this one's place among them, and how many they are; zigzag: of
        `Slices`."""
        self.group, self.slices = group, Slices(ranks, rank, zigzag)

    def total(self, counts: Tensor) -> Tensor:
        found = counts.detach().clone()
        dist.all_reduce(found, group=self.group)
        return found
