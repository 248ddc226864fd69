"""What preflight looks at on every rank, and what it makes of it: pure functions over the looks of all ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from trainer.books import parameters
from trainer.books.formatting import format_amount
from trainer.config import Config
from trainer.config.host import precision

CHECKPOINT_BYTES_PER_PARAMETER = 12  # fp32 weight and AdamW's two moments
SLOW = 3.0  # a rank that is so many times slower than the median one
CLOCK_SECONDS = 30.0  # clocks that differ by more make a logbook that nobody can read
PLAUSIBLE_SHARE = 0.1  # of the stated peak or bandwidth


@dataclass(frozen=True)
class Look:
    """One rank's view of its own place."""

    rank: int
    node: str
    arrived: bool = True
    devices: int = 0  # that this rank can see and that the run wants
    device: str = ""
    versions: dict[str, str | None] = field(default_factory=dict)
    code: str = ""  # hash over the project's source files
    config: str = ""  # hash of the frozen config.yaml
    free_bytes: int = 0  # where the run folder lies
    folder: str = ""  # why it cannot be written, if so
    shared: bool = True  # sees what the first rank wrote into the run folder
    matmul_right: bool = True
    matmul_flop_per_second: float = 0.0
    clock: float | None = None  # seconds since the epoch, all ranks at one moment
    sum_right: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Complaint:
    """A node and what is wrong with it."""

    node: str
    text: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def judge(looks: Sequence[Look], config: Config) -> list[Complaint]:
    """What is wrong with single nodes; one line a node and cause, however many of its ranks say so."""
    here = [look for look in looks if look.arrived]
    wait = config.launch.rendezvous_seconds
    found = [Complaint(look.node, f"did not arrive within {wait} s") for look in looks if not look.arrived]
    for name in sorted({name for look in here for name in look.versions}):
        found += _odd(here, name, lambda look, name=name: str(look.versions.get(name)))  # type: ignore[misc]
    found += _odd(here, "the code of the project", lambda look: look.code[:12])
    found += _odd(here, "config.yaml", lambda look: look.config[:12])
    found += _odd(here, "the device", lambda look: look.device)
    wanted = config.launch.processes
    need = CHECKPOINT_BYTES_PER_PARAMETER * parameters(config).total * (config.checkpoint.keep_last + 1)
    peak = config.machine.peak_flops.get(precision(config))
    typical = median([look.matmul_flop_per_second for look in here]) if here else 0.0
    for look in here:
        speed = look.matmul_flop_per_second
        if look.devices < wanted:
            found.append(Complaint(look.node, f"{look.devices} devices, {wanted} wanted"))
        if look.folder:
            found.append(Complaint(look.node, f"cannot write to the run folder ({look.folder})"))
        elif not look.shared:
            found.append(Complaint(look.node, "its run folder is not the one of the first node; it must be shared"))
        elif look.free_bytes < need:
            free, wants = format_amount(look.free_bytes, "bytes"), format_amount(need, "bytes")
            found.append(Complaint(look.node, f"{free} free where the run lies, its checkpoints take {wants}"))
        if not look.matmul_right:
            found.append(Complaint(look.node, "a matrix product comes out wrong"))
        elif speed < typical / SLOW:
            shown = f"{format_amount(speed, 'FLOP/s')}, the median rank {format_amount(typical, 'FLOP/s')}"
            found.append(Complaint(look.node, f"a matrix product is slow: {shown}"))
        elif peak and speed < PLAUSIBLE_SHARE * peak:
            shown = f"{format_amount(speed, 'FLOP/s')} of {format_amount(peak, 'FLOP/s')} stated"
            found.append(Complaint(look.node, f"a matrix product is slow: {shown}"))
    return list(dict.fromkeys(found))


def judge_together(looks: Sequence[Look], config: Config, seconds: float, size_bytes: int) -> list[Complaint]:
    """What only shows when all ranks act at once: sums, their speed, and clocks."""
    found = [Complaint(look.node, "an all-reduce comes out wrong") for look in looks if not look.sum_right]
    clocks = [look.clock for look in looks if look.clock is not None]
    middle = median(clocks) if clocks else 0.0
    for look in looks:
        if look.clock is not None and abs(look.clock - middle) > CLOCK_SECONDS:
            side = "ahead of" if look.clock > middle else "behind"
            ahead = format_amount(abs(look.clock - middle), "s")
            found.append(Complaint(look.node, f"its clock is {ahead} {side} the others'"))
    link = config.machine.network_bandwidth if config.launch.nodes > 1 else config.machine.link_bandwidth
    ranks = len(looks)
    bandwidth = 2 * (ranks - 1) / ranks * size_bytes / seconds  # bytes that each rank sends in a ring
    if link and bandwidth < PLAUSIBLE_SHARE * link:
        shown = f"{format_amount(bandwidth, 'bytes')}/s of {format_amount(link, 'bytes')}/s stated"
        found.append(Complaint("all nodes", f"an all-reduce is slow: {shown}"))
    return list(dict.fromkeys(found))


def _odd(looks: Sequence[Look], what: str, value: Callable[[Look], str]) -> list[Complaint]:
    """Those who differ from what most nodes have; between equals, from what the first one has."""
    by_node = {look.node: value(look) for look in reversed(looks)}
    if len(set(by_node.values())) < 2:
        return []
    common = Counter(by_node[look.node] for look in {one.node: one for one in looks}.values()).most_common(1)[0][0]
    return [
        Complaint(node, f"{what}: {has or 'nothing'}, other nodes have {common or 'nothing'}")
        for node, has in reversed(by_node.items())
        if has != common
    ]
