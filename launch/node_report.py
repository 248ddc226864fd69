"""What preflight measures on every rank, and the problems that follow: pure functions over the reports of all ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from trainer.books.formatting import format_amount
from trainer.books.layout import checkpoint_bytes
from trainer.config import Config
from trainer.config.host import precision

SLOW = 3.0  # a rank that is so many times slower than the median one
CLOCK_SECONDS = 30.0  # events of clocks that differ by more cannot be put in order
PLAUSIBLE_SHARE = 0.1  # of the stated peak or bandwidth


@dataclass(frozen=True)
class RankReport:
    """What one rank measured on its own node."""

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
class Problem:
    """What is wrong with a node."""

    node: str
    text: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def evaluate(reports: Sequence[RankReport], config: Config) -> list[Problem]:
    """What is wrong with single nodes; one line a node and cause, however many of its ranks say so."""
    here = [report for report in reports if report.arrived]
    wait = config.launch.rendezvous_seconds
    found = [Problem(report.node, f"did not arrive within {wait} s") for report in reports if not report.arrived]
    for name in sorted({name for report in here for name in report.versions}):
        found += _outliers(here, name, lambda report, name=name: str(report.versions.get(name)))  # type: ignore[misc]
    found += _outliers(here, "the code of the project", lambda report: report.code[:12])
    found += _outliers(here, "config.yaml", lambda report: report.config[:12])
    found += _outliers(here, "the device", lambda report: report.device)
    wanted = config.launch.processes
    need = checkpoint_bytes(config) * (config.checkpoint.keep_last + 1)
    peak = config.machine.peak_flops.get(precision(config))
    typical = median([report.matmul_flop_per_second for report in here]) if here else 0.0
    for report in here:
        speed = report.matmul_flop_per_second
        if report.devices < wanted:
            found.append(Problem(report.node, f"{report.devices} devices, {wanted} wanted"))
        if report.folder:
            found.append(Problem(report.node, f"cannot write to the run folder ({report.folder})"))
        elif not report.shared:
            found.append(Problem(report.node, "its run folder is not the one of the first node; it must be shared"))
        elif report.free_bytes < need:
            free, wants = format_amount(report.free_bytes, "bytes"), format_amount(need, "bytes")
            found.append(Problem(report.node, f"{free} free where the run lies, its checkpoints take {wants}"))
        if not report.matmul_right:
            found.append(Problem(report.node, "a matrix product comes out wrong"))
        elif speed < typical / SLOW:
            shown = f"{format_amount(speed, 'FLOP/s')}, the median rank {format_amount(typical, 'FLOP/s')}"
            found.append(Problem(report.node, f"a matrix product is slow: {shown}"))
        elif peak and speed < PLAUSIBLE_SHARE * peak:
            shown = f"{format_amount(speed, 'FLOP/s')} of {format_amount(peak, 'FLOP/s')} stated"
            found.append(Problem(report.node, f"a matrix product is slow: {shown}"))
    return list(dict.fromkeys(found))


def evaluate_together(reports: Sequence[RankReport], config: Config, seconds: float, size_bytes: int) -> list[Problem]:
    """Problems that show only when all ranks act at once: sums, their speed, and clocks."""
    found = [Problem(report.node, "an all-reduce comes out wrong") for report in reports if not report.sum_right]
    clocks = [report.clock for report in reports if report.clock is not None]
    middle = median(clocks) if clocks else 0.0
    for report in reports:
        if report.clock is not None and abs(report.clock - middle) > CLOCK_SECONDS:
            side = "ahead of" if report.clock > middle else "behind"
            ahead = format_amount(abs(report.clock - middle), "s")
            found.append(Problem(report.node, f"its clock is {ahead} {side} the others'"))
    link = config.machine.network_bandwidth if config.launch.nodes > 1 else config.machine.link_bandwidth
    ranks = len(reports)
    bandwidth = 2 * (ranks - 1) / ranks * size_bytes / seconds  # bytes that each rank sends in a ring
    if link and bandwidth < PLAUSIBLE_SHARE * link:
        shown = f"{format_amount(bandwidth, 'bytes')}/s of {format_amount(link, 'bytes')}/s stated"
        found.append(Problem("all nodes", f"an all-reduce is slow: {shown}"))
    return list(dict.fromkeys(found))


def _outliers(reports: Sequence[RankReport], what: str, value: Callable[[RankReport], str]) -> list[Problem]:
    """A problem for each node whose value differs from the most common one; of equally common ones the first counts."""
    by_node = {report.node: value(report) for report in reversed(reports)}
    if len(set(by_node.values())) < 2:
        return []
    common = Counter(by_node[report.node] for report in {one.node: one for one in reports}.values()).most_common(1)[0][
        0
    ]
    return [
        Problem(node, f"{what}: {has or 'nothing'}, other nodes have {common or 'nothing'}")
        for node, has in reversed(by_node.items())
        if has != common
    ]
