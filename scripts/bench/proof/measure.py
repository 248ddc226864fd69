"""The time of contestants in turns, as replays of CUDA graphs, so that no host's launch is in it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from environment import reason
from torch import Tensor

ROUNDS = 7
ROUND_SECONDS = 0.02
EAGER_CALLS = 10  # few enough that the queue of launches (1,024) never fills, which would make the host wait

Work = Callable[[], Any]


@dataclass
class Contestant:
    """forward gives one tensor or several; the backward pass asks for the gradients of `inputs` with `douts`.

    names: of the tensors of `results`; results: (outputs, gradients) -> what is compared with the reference.
    """

    forward: Callable[[], Tensor | tuple[Tensor, ...]]
    inputs: Sequence[Tensor]
    douts: Sequence[Tensor | None]
    results: Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], dict[str, Tensor]] | None = None

    def outputs(self) -> tuple[Tensor, ...]:
        found = self.forward()
        return found if isinstance(found, tuple) else (found,)

    def both(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        out = self.outputs()
        return out, torch.autograd.grad(out, list(self.inputs), list(self.douts))


@dataclass
class Built:
    """flop: of the forward pass and of both; moved: bytes that must move in both, where memory is the bound.

    reference: the tensors of the contestants' `results` in fp64 (or fp32 where that would not fit).
    """

    contestants: dict[str, Callable[[], Contestant]]
    flop: tuple[float, float] | None = None
    moved: float | None = None
    reference: Callable[[], dict[str, Tensor]] | None = None
    notes: list[str] = field(default_factory=list)


class Clock(Protocol):
    """The device's side of a measurement; tests bring one of their own."""

    def captured(self, work: Work) -> tuple[Work, bool]:
        """(what runs the work once, whether it is a graph); the work has run before."""

    def seconds(self, work: Work, repeats: int) -> float:
        """Of one run, as the mean of `repeats` in a row."""

    def synchronize(self) -> None: ...

    def peak_bytes(self, work: Work) -> int | None:
        """What one run holds at most beyond what stood before; None: not stated."""


class CpuClock:
    def captured(self, work: Work) -> tuple[Work, bool]:
        return work, False

    def seconds(self, work: Work, repeats: int) -> float:
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        return (time.perf_counter() - began) / repeats

    def synchronize(self) -> None:
        pass

    def peak_bytes(self, work: Work) -> int | None:
        work()
        return None


class CudaClock:
    def captured(self, work: Work) -> tuple[Work, bool]:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        torch.cuda.synchronize()
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph):
                work()
        except Exception:  # something in it waits for the host
            torch.cuda.set_stream(stream)  # where the end of the capture fails too, it is not restored
            torch.cuda.synchronize()
            return work, False
        return graph.replay, True

    def seconds(self, work: Work, repeats: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def peak_bytes(self, work: Work) -> int | None:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before


def clock() -> Clock:
    return CudaClock() if torch.cuda.is_available() else CpuClock()


def relative_error(value: Tensor, exact: Tensor) -> float:
    """|value - exact| / |exact|, Frobenius norms in fp64."""
    value, exact = value.detach().double(), exact.double()
    return float((value - exact).norm() / exact.norm())


def host_seconds(work: Work, device: Clock, calls: int = EAGER_CALLS) -> float:
    """Median time until a call returns, with the device idle before the first: the host's share of a launch."""
    took = []
    device.synchronize()
    for _ in range(calls):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    device.synchronize()
    return statistics.median(took)


def _first_run(contestant: Contestant, exact: Mapping[str, Tensor], device: Clock) -> dict[str, Any]:
    """Compiles the contestant; its error, peak memory and host time."""
    outputs, gradients = contestant.both()
    errors = {}
    if contestant.results is not None:
        found = contestant.results(outputs, gradients)
        errors = {name: relative_error(found[name], exact[name]) for name in found if name in exact}
    del outputs, gradients
    return {
        "error": errors,
        "peak_bytes": device.peak_bytes(contestant.both),
        "host_seconds": host_seconds(contestant.both, device),
    }


def _rounds(runs: Mapping[tuple[str, str], Work], device: Clock, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of each run in each round, in turns."""
    counts = {key: max(1, round(ROUND_SECONDS / max(device.seconds(run, 2), 1e-6))) for key, run in runs.items()}
    took: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            took[key].append(device.seconds(run, counts[key]))
    return took


def measure(case: Built, device: Clock, sensors: Any = None, rounds: int = ROUNDS) -> dict[str, Any]:
    """The row of a case: {"who": {name: figures}, "refused": {name: why}, "sensors": ..., "status"}.

    Figures of a contestant: seconds of `forward` (training's: it keeps what the backward pass needs) and of `both`, the
    median of the rounds; their spread, the largest over the smallest; host_seconds of one eager call of both, and of
    one replay; error against the reference; peak bytes. A contestant that cannot run is left out with its reason.
    """
    exact = case.reference() if case.reference else {}
    runs: dict[tuple[str, str], Work] = {}
    who: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    for name, build in case.contestants.items():
        try:
            contestant = build()
            figures = _first_run(contestant, exact, device)
            graphs = []
            for part, work in (("forward", contestant.outputs), ("both", contestant.both)):
                runs[name, part], graph = device.captured(work)
                graphs.append(graph)
            who[name] = figures | {"graph": all(graphs), "replay_host_seconds": None}
            if all(graphs):
                who[name]["replay_host_seconds"] = host_seconds(runs[name, "both"], device)
        except Exception as error:  # a shape that is refused, memory that is full, a compiler that gives up
            refused[name] = reason(error)
            runs = {key: run for key, run in runs.items() if key[0] != name}
            device.synchronize()  # an error that the device keeps is raised here, and ends this process
    del exact
    if sensors:
        sensors.begin()
    took = _rounds(runs, device, rounds)
    sensed = sensors.end() if sensors else None
    for name, figures in who.items():
        for part in ("forward", "both"):
            seconds = took[name, part]
            figures[f"{part}_seconds"] = statistics.median(seconds)
            figures[f"{part}_spread"] = max(seconds) / min(seconds)
    row: dict[str, Any] = {"who": who, "refused": refused, "sensors": sensed, "notes": case.notes}
    row["flop"], row["moved"] = case.flop, case.moved
    own = "isoflop" in who
    return row | {"status": "measured" if own else "failed"} | ({} if own else {"why": refused.get("isoflop", "")})
