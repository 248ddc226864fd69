"""What DeepSpeed has to know of experts that several ranks share.

It adds up gradients, and divides states and weights, over the ranks that hold the same: of a dense parameter all, of
an expert's those at the same place in each group. So an expert's gradient is the sum over all tokens that reached it,
wherever they came from, and divided by the number of all ranks, as every other gradient is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.models.expert_ranks import ExpertRanks, ranks_of
from trainer.training.distributed import World


def expert_ranks(size: int) -> ExpertRanks | None:
    """Groups of `size` consecutive ranks that share experts; None where each has all. Collective."""
    if size == 1:
        return None
    from deepspeed.utils import groups

    name = f"ep_size_{size}"  # as DeepSpeed names them
    groups._create_expert_and_data_parallel(size)
    group, across = groups._get_expert_parallel_group(name), groups._get_expert_data_parallel_group(name)

    def mark(parameter: Any) -> None:
        parameter.allreduce, parameter.group_name = False, name  # up to stage 2
        parameter.ds_zero_placement_family, parameter.ds_zero_partition_group_name = "autoep_expert", name  # stage 3
        parameter.ds_zero_partition_process_group = across

    return ExpertRanks(name, groups._get_expert_parallel_rank(name), size, group, across, mark)


@contextmanager
def experts_announced(model: nn.Module, ranks: ExpertRanks | None, stage: int) -> Iterator[None]:
    """While DeepSpeed makes its engine: up to stage 2 it looks at a mark on a parameter only where it finds a layer of
    its own kind in the model."""
    if ranks is None or stage == 3:
        yield
        return
    from deepspeed.moe.layer import MoE

    size = ranks.size

    class Announcement(MoE):  # type: ignore[misc]
        """A layer that does nothing."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.num_experts = size

        def set_deepspeed_parallelism(self, use_data_before_expert_parallel_: bool = False) -> None:
            """The groups are there already."""

    model.add_module("experts_announced", Announcement())
    try:
        yield
    finally:
        del model.experts_announced


# --- stage 0, where every rank steps on all that it holds ---


def holders(parameter: Tensor, world: World) -> tuple[int, int, dist.ProcessGroup | None]:
    """The ranks that hold the same of a parameter: how many, which of them this one is, and their group."""
    shared = ranks_of(parameter)
    if shared is None:
        return world.size, world.rank, None
    return world.size // shared.size, world.rank // shared.size, shared.across


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Of the gradients of all parameters, each expert counted once. Collective where experts are shared."""
    found: dict[ExpertRanks | None, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            found.setdefault(ranks_of(parameter), []).append(parameter.grad)
    norms = []
    for shared, gradients in found.items():
        norm = nn.utils.get_total_norm(gradients)
        if shared is not None:
            square = norm.square()
            dist.all_reduce(square, group=shared.group)
            norm = square.sqrt()
        norms.append(norm)
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
