"""The ranks of a run and the small CPU collectives with which they keep books."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store, TCPStore


class World:
    """This rank's place. Collectives here move a few numbers over gloo, never tensors of the model."""

    def __init__(self, rank: int, world_size: int, local_rank: int, device: torch.device) -> None:
        self.rank, self.size, self.local_rank, self.device = rank, world_size, local_rank, device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value summed over ranks, in double precision."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        if self.size > 1:
            self.sum(0.0)  # over gloo also where the default device is a GPU


def join(device: str, timeout_seconds: float) -> World:
    """Enter the process group that torchrun described in the environment, or a group of one."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if cuda:
        torch.cuda.set_device(local_rank)
    timeout = timedelta(seconds=timeout_seconds)
    # Groups that DeepSpeed makes by itself read this default, not what init_process_group was given.
    torch.distributed.distributed_c10d.default_pg_timeout = timeout
    torch.distributed.constants.default_pg_timeout = timeout
    store: Store = HashStore()
    if size > 1:
        tcp = TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size, is_master=False, timeout=timeout
        )
        # A restarted worker must not find the addresses of the dead attempt.
        store = PrefixStore("attempt_" + os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), tcp)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    return World(rank, size, local_rank, torch.device("cuda", local_rank) if cuda else torch.device("cpu"))
