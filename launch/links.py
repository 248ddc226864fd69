"""The links between ranks before training: how fast each is in both directions, and which is not as the others.

Neighbours of one host measure what is inside, the same places of neighbouring hosts what is between them: all ports of
a host at a time, as rings use them. Every rank is in one pair at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from launch.node_report import PLAUSIBLE_SHARE, SLOW, Problem
from trainer.books.formatting import format_amount
from trainer.config import Config

if TYPE_CHECKING:
    from trainer.training.distributed import World

SENT_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
ROUNDS = 8  # of which the best counts: a neighbour's load is no fault
ONE_SIDED = 4.0  # the other direction is so many times faster
FEW = 3  # links of a kind of which none can be told to be unlike the others


@dataclass(frozen=True)
class Link:
    """One direction of a link between two ranks."""

    source: int
    target: int
    source_node: str
    target_node: str
    seconds: float  # of a byte
    bytes_per_second: float

    @property
    def between(self) -> bool:
        return self.source_node != self.target_node

    @property
    def name(self) -> str:
        if self.between:
            return f"from {self.source_node} (rank {self.source}) to {self.target_node} (rank {self.target})"
        return f"from rank {self.source} to rank {self.target}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rounds(nodes: Sequence[str]) -> Iterator[list[tuple[int, int]]]:
    """Pairs of ranks that measure at the same time, by the node of each rank; no rank is in two of a round."""
    places: dict[str, list[int]] = {}
    for rank, node in enumerate(nodes):
        places.setdefault(node, []).append(rank)
    hosts = list(places.values())
    for first in (0, 1):  # even neighbours, then odd ones
        yield [pair for ranks in hosts for pair in _pairs(ranks, first)]
    for first in (0, 1):
        yield [pair for pair_of_hosts in _pairs(hosts, first) for pair in zip(*pair_of_hosts, strict=False)]


def _pairs(line: Sequence[Any], first: int) -> list[tuple[Any, Any]]:
    return [(line[at], line[at + 1]) for at in range(first, len(line) - 1, 2)]


def measure_links(world: World, nodes: Sequence[str]) -> list[Link]:
    """All links of a launch, the same list on every rank. Collective."""
    mine: list[dict[str, Any]] = []
    for pairs in rounds(nodes):
        for first, second in pairs:
            if world.rank in (first, second):
                peer = second if world.rank == first else first
                seconds, speed = _measured(world, peer, leads=world.rank == first)
                mine.append(Link(world.rank, peer, nodes[world.rank], nodes[peer], seconds, speed).to_json())
        world.barrier()
    return [Link(**one) for found in world.gather(mine) for one in found]


def _measured(world: World, peer: int, *, leads: bool) -> tuple[float, float]:
    """Seconds of one byte and bytes a second from this rank to its peer, who measures the other direction."""
    import torch

    size = SENT_BYTES[world.device.type]
    answer, best = torch.zeros(1, dtype=torch.uint8, device=world.device), []
    for count in (1, size):
        message, taken = torch.zeros(count, dtype=torch.uint8, device=world.device), []
        for _ in range(ROUNDS):
            for sends in (leads, not leads):
                seconds = _there_and_back(world, peer, message, answer, sends)
                taken += [seconds] if sends else []
        best.append(min(taken))
    latency = best[0] / 2
    return latency, size / max(best[1] - latency, 1e-9)


def _there_and_back(world: World, peer: int, message: Any, answer: Any, sends: bool) -> float:
    """Seconds from sending the message until a byte has come back."""
    import torch
    import torch.distributed as dist

    began = time.perf_counter()
    if sends:
        dist.send(message, peer)
        dist.recv(answer, peer)
    else:
        dist.recv(message, peer)
        dist.send(answer, peer)
    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)
    return time.perf_counter() - began


def evaluate_links(links: Sequence[Link], config: Config, device: str) -> list[Problem]:
    """A line for each link that is far below what the machine states, or unlike its own other direction or the others
    of its kind; beside it what is stated. Ranks on the processors of one host (`device` is "cpu") share its memory:
    there is no link between them that could be faulty, and what differs is the load."""
    machine, found = config.machine, []
    links = [one for one in links if one.between or device != "cpu"]
    back = {(one.target, one.source): one.bytes_per_second for one in links}
    for between, key in ((False, "link_bandwidth"), (True, "network_bandwidth")):
        kind = [one for one in links if one.between == between]
        typical = median([one.bytes_per_second for one in kind]) if len(kind) > 2 * FEW else 0.0
        stated = getattr(machine, key)
        of_stated = f"machine.{key} {_speed(stated)}" if stated else f"machine.{key} is not stated"
        for one in kind:
            speed, other = one.bytes_per_second, back[one.source, one.target]
            if speed * ONE_SIDED < other:
                why = f"one-sided: {_speed(speed)}, {_speed(other)} the other way"
            elif stated and speed < PLAUSIBLE_SHARE * stated:
                why = f"slow: {_speed(speed)}"
            elif speed * SLOW < typical:
                why = f"slow: {_speed(speed)}, the median link {_speed(typical)}"
            else:
                continue
            found.append(Problem(one.source_node, f"the link {one.name} is {why} ({of_stated})"))
    return found


def links_said(links: Sequence[dict[str, Any]]) -> list[str]:
    """Lines for a person: inside hosts and between them the slowest, the median and the longest wait."""
    said = []
    every = [Link(**one) for one in links]
    for between, where in ((False, "inside hosts"), (True, "between hosts")):
        if kind := [one for one in every if one.between == between]:
            speeds = [one.bytes_per_second for one in kind]
            worst = min(kind, key=lambda one: one.bytes_per_second)
            wait = format_amount(max(one.seconds for one in kind), "s")
            said.append(
                f"links {where}: median {_speed(median(speeds))}, least {_speed(min(speeds))} {worst.name}; "
                f"a byte takes {wait} at most"
            )
    return said


def _speed(value: float) -> str:
    return f"{format_amount(value, 'bytes')}/s"
