"""The ranks of a run and the small CPU collectives with which they keep books."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store

from trainer.training.faults.flight_record import keep_record
from trainer.training.store import LOOPBACK, keep_on_loopback, on_one_host, open_store
from trainer.utils.errors import UserError


class Unconnected(Exception):
    """The ranks do not reach each other: one is gone, or the network is wrong. To start again may help."""


class World:
    """This rank's place. Collectives here move a few numbers, never tensors of the model: over gloo, but for
    `add_up`."""

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

    def add_up(self, numbers: torch.Tensor) -> None:
        """Sums over ranks in place, on the device of the numbers and without waiting for them there."""
        self.entered += 1
        if self.size > 1:
            dist.all_reduce(numbers, group=None if numbers.is_cuda else self.group)

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, on every rank. Plain data, as JSON has it: tuples come back as lists.

        Raises TypeError for anything else. Torch's collectives of objects would unpickle what the network brings.
        """
        self.entered += 1
        mine = _encode(value)
        if self.size == 1:
            return [_decode(mine)]
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(mine)]), group=self.group)
        longest = int(max(lengths))
        padded = torch.nn.functional.pad(mine, (0, longest - len(mine)))
        texts = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(texts, padded, group=self.group)
        return [_decode(text[: int(length)]) for text, length in zip(texts, lengths, strict=True)]

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, as `gather` brings it."""
        self.entered += 1
        text = _encode(value if self.is_first else None)
        if self.size == 1:
            return _decode(text)
        length = torch.tensor([len(text)])
        dist.broadcast(length, src=0, group=self.group)
        if not self.is_first:
            text = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(text, src=0, group=self.group)
        return _decode(text)

    def barrier(self) -> None:
        if self.size > 1:
            self.sum(0.0)  # over gloo also where the default device is a GPU


def _encode(value: Any) -> torch.Tensor:
    """Plain data as a uint8 tensor of JSON. Raises TypeError for what JSON would not bring back."""
    _check_keys(value)
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _decode(text: torch.Tensor) -> Any:
    return json.loads(text.numpy().tobytes())


def _check_keys(value: Any) -> None:
    """JSON would turn the key 1 into "1" without a word."""
    if isinstance(value, dict):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"keys of what ranks exchange are strings, not {wrong[0]!r}")
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for one in value:
        _check_keys(one)


def join(device: str, timeout_seconds: float, rendezvous_seconds: float = 600.0, store: Store | None = None) -> World:
    """Enter the process group that the environment describes (torchrun's names), or a group of one.

    `store` is where the ranks have met already. Raises UserError where they cannot meet within `rendezvous_seconds`,
    Unconnected where they have met and then do not reach each other.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if on_one_host():
        keep_on_loopback(os.environ)
    keep_record(os.environ)
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
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    except (RuntimeError, ValueError) as error:  # ValueError: what stands in the store is no address
        first_line = str(error).partition("\n")[0]
        raise Unconnected(f"the ranks have met and cannot connect to each other: {first_line}") from error
    return World(rank, size, local_rank, torch.device("cuda", local_rank) if cuda else torch.device("cpu"))


def meet(rank: int, size: int, seconds: float, *, wait_for_all: bool = True) -> Store:
    """The store of all ranks of this attempt: torchrun's agent holds it, else the first rank does.

    Raises UserError where the ranks cannot meet within so many seconds, or where the port is taken.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    of_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    holds = rank == 0 and not of_agent
    if on_one_host() and not of_agent:
        host = LOOPBACK
    try:
        store = open_store(host, port, size, seconds, holds=holds, wait_for_all=wait_for_all)
    except OSError as error:
        raise UserError(
            f"MASTER_PORT: {port} cannot be used on {host} ({error.strerror}); choose another, or another MASTER_ADDR"
        ) from None
    except dist.DistError:
        who = "not all ranks came to" if holds else "no rendezvous at"
        raise UserError(f"{who} {host}:{port} within {seconds:g} s (launch.rendezvous_seconds)") from None
    # It outlives the ranks: those that are started again must not find the addresses of the dead attempt.
    return PrefixStore("attempt_" + os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store) if of_agent else store
