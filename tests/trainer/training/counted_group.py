"""A process group that counts what goes through it: `init_process_group("counted")` after `register()`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import torch.distributed as dist
from torch import Tensor

# Numbers that one rank of n sends in a ring for each number of the whole buffer.
ONCE = {"all_gather", "reduce_scatter", "all_to_all", "reduce", "broadcast"}  # (n - 1) / n; the last two on average
TWICE = {"all_reduce"}
# What `send` gives to one rank is counted as it is.


class CountedGroup(dist.ProcessGroup):  # type: ignore[misc]
    """Gloo, of whose collectives the bytes are counted that a rank sends, by the formula of a ring."""

    sent: ClassVar[Counter[tuple[str, str]]] = Counter()  # (collective, dtype) -> bytes, of all groups of this process

    def __init__(self, store: Any, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(rank, size)
        self.inner = dist.ProcessGroupGloo(store, rank, size, timeout)

    def _count(self, collective: str, tensors: Sequence[Tensor], copies: int = 1) -> None:
        """copies: how often the tensors are in the whole buffer."""
        share = (2 if collective in TWICE else 1) * (self.size() - 1) / self.size()
        for tensor in tensors:
            dtype = str(tensor.dtype).removeprefix("torch.")
            self.sent[collective, dtype] += round(share * copies * tensor.numel() * tensor.element_size())

    def size(self) -> int:
        return self.inner.size()

    def getBackendName(self) -> str:
        return "counted"

    def allreduce(self, tensors: Any, *options: Any) -> Any:
        self._count("all_reduce", tensors)
        return self.inner.allreduce(tensors, *options)

    def broadcast(self, tensors: Any, *options: Any) -> Any:
        self._count("broadcast", tensors)
        return self.inner.broadcast(tensors, *options)

    def reduce(self, tensors: Any, *options: Any) -> Any:
        self._count("reduce", tensors)
        return self.inner.reduce(tensors, *options)

    def allgather(self, outputs: Any, inputs: Any, *options: Any) -> Any:
        self._count("all_gather", inputs, self.size())
        return self.inner.allgather(outputs, inputs, *options)

    def _allgather_base(self, output: Tensor, given: Tensor, *options: Any) -> Any:
        self._count("all_gather", [output])
        return self.inner._allgather_base(output, given, *options)

    def _reduce_scatter_base(self, output: Tensor, given: Tensor, *options: Any) -> Any:
        self._count("reduce_scatter", [given])
        return self.inner._reduce_scatter_base(output, given, *options)

    def alltoall_base(self, output: Tensor, given: Tensor, *options: Any) -> Any:
        self._count("all_to_all", [given])
        return self.inner.alltoall_base(output, given, *options)

    def send(self, tensors: Any, to: int, tag: int) -> Any:
        for tensor in tensors:
            self.sent["send", str(tensor.dtype).removeprefix("torch.")] += tensor.numel() * tensor.element_size()
        return self.inner.send(tensors, to, tag)

    def recv(self, tensors: Any, source: int, tag: int) -> Any:
        return self.inner.recv(tensors, source, tag)

    # As newer versions of torch call them.
    all_gather_single, reduce_scatter_single, all_to_all_single = _allgather_base, _reduce_scatter_base, alltoall_base

    def barrier(self, opts: Any = None) -> Any:
        return self.inner.barrier() if opts is None else self.inner.barrier(opts)


class SettledGroup(CountedGroup):
    """One that comes back when gloo's threads have let go of what they were given, so that they free nothing."""

    SECONDS = 0.02


def _settled(name: str) -> Any:
    def call(self: SettledGroup, *given: Any) -> Any:
        work = getattr(super(SettledGroup, self), name)(*given)
        if name not in ("send", "recv"):  # the one of them waits for the other one
            work.wait()
        time.sleep(self.SECONDS)
        return work

    return call


for _name in ("allreduce", "broadcast", "reduce", "allgather", "_allgather_base", "_reduce_scatter_base"):
    setattr(SettledGroup, _name, _settled(_name))
for _name in ("alltoall_base", "all_gather_single", "reduce_scatter_single", "all_to_all_single", "send", "recv"):
    setattr(SettledGroup, _name, _settled(_name))


def register() -> None:
    dist.Backend.register_backend("counted", CountedGroup, devices=["cpu"])
    dist.Backend.register_backend("settled", SettledGroup, devices=["cpu"])
