"""What a run says of its hosts before step 1: too many threads of its own, or others that want the same cores."""

from __future__ import annotations

import os
import socket

import torch

from trainer.config.host import cores
from trainer.meter.host_load import runnable
from trainer.training.distributed import World

MUCH = 1.1  # of the cores, that all who want to run want together


def host_notes(world: World) -> tuple[tuple[str, ...], int | None]:
    """A line for each host on which ranks have more threads than cores, and one where other processes are busy on the
    first rank's host; and how many of their threads are. Collective; the lines are the first rank's.
    """
    threads = torch.get_num_threads() if world.device.type == "cpu" else 1
    ranks = world.gather([socket.gethostname(), threads, cores(), sorted(_allowed())])
    busy = runnable() if world.is_first else None
    world.barrier()  # until then the others wait and want no core
    if not world.is_first:
        return (), None
    hosts: dict[str, list[tuple[int, int, list[int]]]] = {}
    for host, *one in ranks:
        hosts.setdefault(host, []).append((one[0], one[1], one[2]))
    lines = [line for host, there in hosts.items() if (line := _too_many_threads(host, there))]
    return (*lines, *_others(busy, hosts[ranks[0][0]])), busy


def _allowed() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _cores_of(there: list[tuple[int, int, list[int]]]) -> int:
    """Of all ranks of a host together. Where a control group gives less time than cores, each rank knows its limit."""
    together = len({core for _, _, allowed in there for core in allowed})
    limited = all(one < len(allowed) for _, one, allowed in there)
    return min(together, max(one for _, one, _ in there)) if limited else together


def _too_many_threads(host: str, there: list[tuple[int, int, list[int]]]) -> str | None:
    wanted, available = sum(threads for threads, _, _ in there), _cores_of(there)
    if wanted <= available:
        return None
    ranks = f"{len(there)} ranks have" if len(there) > 1 else "1 rank has"
    best = max(1, available // len(there))
    return (
        f"{host}: {ranks} {wanted} threads on {available} core{'s' * (available > 1)}, which wait for each other; "
        f"set engine.threads={best}" + (" and fewer launch.processes" if len(there) > available else "")
    )


def _others(busy: int | None, there: list[tuple[int, int, list[int]]]) -> list[str]:
    """Said only where the run may use the whole host: of a part of it nobody knows who wants it."""
    available, wanted = _cores_of(there), sum(threads for threads, _, _ in there)
    if not busy or available < (os.cpu_count() or 1) or busy + min(wanted, available) <= MUCH * available:
        return []
    what = f"{busy} runnable process{'es' * (busy > 1)} beside this run on {available} core{'s' * (available > 1)}"
    return [f"this host is busy: {what}; tokens/s will be lower"]
