"""The ranks of a run and the small CPU collectives with which they keep books."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store, TCPStore

from trainer.errors import UserError


class World:
    """This rank's place. Collectives here move a few numbers over gloo, never tensors of the model."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        local_rank: int,
        device: torch.device,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """`group`: whose connections the collectives use; null: those of the default group."""
        self.rank, self.size, self.local_rank, self.device, self.group = rank, world_size, local_rank, device, group
        self.entered = 0  # collectives that this rank came to; all ranks come to the same ones

    def apart(self) -> World:
        """The same ranks with connections of their own, for a thread beside the training. Collective."""
        group = dist.new_group(backend="gloo") if self.size > 1 else None
        return World(self.rank, self.size, self.local_rank, self.device, group)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value summed over ranks, in double precision."""
        self.entered += 1
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.group)
        return tensor.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, on every rank."""
        self.entered += 1
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value."""
        self.entered += 1
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def barrier(self) -> None:
        if self.size > 1:
            self.sum(0.0)  # over gloo also where the default device is a GPU


def join(device: str, timeout_seconds: float, rendezvous_seconds: float = 600.0, store: Store | None = None) -> World:
    """Enter the process group that the environment describes (torchrun's names), or a group of one.

    `store` is where the ranks have met already. Raises UserError where they cannot meet within `rendezvous_seconds`.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if cuda:
        torch.cuda.set_device(local_rank)
    timeout = timedelta(seconds=timeout_seconds)
    # Groups that DeepSpeed makes by itself read this default, not what init_process_group was given.
    torch.distributed.distributed_c10d.default_pg_timeout = timeout
    torch.distributed.constants.default_pg_timeout = timeout
    if store is None:
        store = HashStore() if size == 1 else meet(rank, size, rendezvous_seconds)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    return World(rank, size, local_rank, torch.device("cuda", local_rank) if cuda else torch.device("cpu"))


def meet(rank: int, size: int, seconds: float, *, wait_for_all: bool = True) -> Store:
    """The store of all ranks of this attempt: torchrun's agent holds it, else the first rank does.

    Raises UserError where the ranks cannot meet within so many seconds, or where the port is taken.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    holds = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        wait = timedelta(seconds=seconds)
        store = TCPStore(host, port, size, is_master=holds, timeout=wait, wait_for_workers=wait_for_all)
    except dist.DistError as error:
        if "EADDRINUSE" in str(error):
            raise UserError(f"MASTER_PORT: {port} is in use on {host}; choose another") from None
        who = "not all ranks came to" if holds else "no rendezvous at"
        raise UserError(f"{who} {host}:{port} within {seconds:g} s (launch.rendezvous_seconds)") from None
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # It outlives the ranks: those that are started again must not find the addresses of the dead attempt.
        return PrefixStore("attempt_" + os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    return store
