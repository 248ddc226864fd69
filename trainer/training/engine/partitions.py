"""Weights of which each rank holds a part in fp32: put together, and held once."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.training.distributed import World
from trainer.training.engine.expert_groups import holders


def put_together(parameter: Any, world: World) -> Tensor:
    """The fp32 weights of a parameter of stage 1 or 2, to the bit as the ranks' partitions have them. Collective."""
    bits = torch.zeros(parameter.numel(), dtype=torch.int32, device=parameter.device)  # added to zeros bits stay as is
    if (mapping := parameter._hp_mapping) is not None:  # else this rank holds nothing of it
        address, part = mapping.lp_fragment_address, mapping.get_hp_fragment().detach()
        bits.narrow(0, address.start, address.numel).copy_(part.view(-1).view(torch.int32))
    ranks, _, group = holders(parameter, world)
    if ranks > 1:
        dist.all_reduce(bits, group=group)
    return bits.view(torch.float32).view(parameter.shape)


def hold_once(optimizer: Any) -> None:
    """At stage 3 DeepSpeed (0.19) steps on the partitions themselves where they are fp32, without a second copy. But
    it compares their device with the name of one, and so makes the copy: here they become views of it."""
    if optimizer.offload_optimizer or optimizer.offload_param:
        return
    for group, flat in enumerate(optimizer.fp32_partitioned_groups_flat):
        optimizer.fp16_partitioned_groups_flat[group] = flat.detach()
        optimizer._unflatten_partitioned_parameters(group)
    optimizer.lp_param_buffer = None
