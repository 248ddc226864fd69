"""What a few steps of a rank do, operator by operator: a hook that traces some of them and counts one.

The first steps are left alone and timed; then come those under PyTorch's profiler, by phase, module and operator, on a
GPU with the history of its allocator; then one whose operators, collectives, bytes and floating-point operations are
counted by PyTorch's dispatcher. All that slows a step and changes nothing in it: losses are those without the hook.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from trainer.training.hooks import Hook, StepResult
from trainer.training.memory_history import History, MemoryHistory
from trainer.training.step_counts import counting

COLLECTIVES = ("gloo:", "ncclDevKernel", "ncclKernel")  # how the names of their events begin
UNTOUCHED = 3  # steps before the first that is traced; the very first one also makes the optimizer's states


class Measured(NamedTuple):
    """What was found of one step of one rank."""

    step_seconds: float  # median of the untouched steps but the first
    alone_seconds: float  # likewise, of the time that this rank works without waiting for another
    traced_seconds: float  # median of the traced steps
    collective_seconds: float  # of a traced step, in which at least one collective is under way
    operators: int  # without views
    product_flop: int
    attention_flop: int  # of fused attention
    other_bytes: int  # read and written by what is no product and no fused attention
    sent_bytes: float  # in collectives, as rings send them
    memory_peak_bytes: int  # of the device's allocator, or of the process on a CPU
    kinds: dict[str, int]  # operators by name
    collectives: dict[str, int]  # likewise


class StepProfile(Hook):
    """Traces `steps` steps after UNTOUCHED ones, and counts the one after. trace: the file for the trace; snapshot:
    that for the history of a GPU's allocator."""

    def __init__(self, steps: int, trace: Path, snapshot: Path) -> None:
        self.steps, self.trace, self.snapshot = steps, trace, snapshot
        self.frames: list[Frame] = []
        self.measured: Measured | None = None
        self.history: History | None = None  # None: no GPU computes
        self._began: float | None = None
        self._seconds: list[float] = []  # of each step that is over
        self._alone: list[float] = []
        self._collectives = 0.0
        self._profiler: Any = None
        self._memory: MemoryHistory | None = None
        self._inside = contextlib.ExitStack()  # of the steps that are traced
        self._phase: Any = None
        self._counted: Any = None

    def step_began(self, step: int) -> None:
        """The one before is over; on a GPU `step_ended` is heard of only in the middle of the next."""
        if self._began is not None and step > len(self._seconds):  # else it begins once more, without an update
            self._seconds.append(time.perf_counter() - self._began)
            if step == UNTOUCHED:
                self._begin_trace()
            elif step == UNTOUCHED + self.steps:
                self._end_trace()
                self._counted = counting()
                self._counted.__enter__()
        self._began = time.perf_counter()

    def _begin_trace(self) -> None:
        with _quiet():
            self._profiler = self._inside.enter_context(_profiler())
        self._inside.enter_context(_modules_named())
        self._memory = _memory_history()

    def _end_trace(self) -> None:
        self._leave_phase()
        profiler, self._profiler = self._profiler, None
        with _quiet():
            self._inside.close()
        self.trace.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.trace))
        self.frames = frames_of(profiler.events())
        self._collectives = collective_seconds(profiler.events())
        if self._memory is not None:
            self.history, self._memory = self._memory.end(self.snapshot), None

    def phase(self, name: str, step: int) -> None:
        """A frame of its own while steps are traced."""
        self._leave_phase()
        if self._profiler is not None:
            from torch.profiler import record_function

            self._phase = record_function(f"phase: {name}")
            self._phase.__enter__()

    def _leave_phase(self) -> None:
        if self._phase is not None:
            self._phase.__exit__(None, None, None)
            self._phase = None

    def step_ended(self, result: StepResult) -> None:
        self._alone.append(result.alone_seconds)
        if self._counted is None or result.step <= UNTOUCHED + self.steps or self.measured is not None:
            return
        self._counted.__exit__(None, None, None)
        counts = self._counted.counts
        self.measured = Measured(
            step_seconds=median(self._seconds[1:UNTOUCHED]),
            alone_seconds=median(self._alone[1:UNTOUCHED]),
            traced_seconds=median(self._seconds[UNTOUCHED:]),
            collective_seconds=self._collectives / self.steps,
            operators=counts["operators"],
            product_flop=counts["product_flop"],
            attention_flop=counts["attention_flop"],
            other_bytes=counts["other_bytes"],
            sent_bytes=self._counted.sent_bytes,
            memory_peak_bytes=result.memory_peak_bytes,
            kinds=dict(self._counted.kinds.most_common()),
            collectives=dict(self._counted.collectives.most_common()),
        )

    def closed(self, status: str, step: int, text: str) -> None:
        """Leave what an early end found open."""
        self._leave_phase()
        self._inside.close()
        if self._memory is not None:
            self._memory.stop()
        if self._counted is not None and self.measured is None:
            self._counted.__exit__(None, None, None)


class Frame(NamedTuple):
    """What took time inside another: its name after those around it, and its seconds, all of one name added."""

    path: tuple[str, ...]
    seconds: float


def frames_of(events: Any) -> list[Frame]:
    """Every operator, module and phase of the host, by the names around it; seconds contain those of what is inside.
    Collectives that another thread completes are no part of it."""
    seconds: Counter[tuple[str, ...]] = Counter()
    for event in events:
        if event.is_async:
            continue
        path, around = [event.name], event.cpu_parent
        while around is not None:
            path.append(around.name)
            around = around.cpu_parent
        seconds[tuple(reversed(path))] += event.cpu_time_total / 1e6  # microseconds
    return [Frame(path, taken) for path, taken in sorted(seconds.items())]


def collective_seconds(events: Any) -> float:
    """Seconds in which at least one collective of this rank was under way: gloo's from when they are asked for, NCCL's
    by their kernels on the GPU. Waiting for a slower rank is part of it."""
    spans = sorted((one.time_range.start, one.time_range.end) for one in events if one.name.startswith(COLLECTIVES))
    whole, until = 0.0, -math.inf
    for start, end in spans:
        whole += max(0.0, end - max(start, until))
        until = max(until, end)
    return whole / 1e6  # microseconds


def _memory_history() -> MemoryHistory | None:
    """Of the GPU that this process computes on, if it does on any."""
    import torch

    return MemoryHistory(torch.cuda.current_device()) if torch.cuda.is_initialized() else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What native code says on standard error is not shown: the profiler's library tells of its own start and end."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _profiler() -> Any:
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    return profile(activities=activities, profile_memory=True, acc_events=True)


@contextlib.contextmanager
def _modules_named() -> Iterator[None]:
    """Every module's forward pass is a frame with the name of its class."""
    from torch.nn.modules import module as modules
    from torch.profiler import record_function

    entered: list[Any] = []

    def before(module: Any, given: Any) -> None:
        frame = record_function(type(module).__name__)
        frame.__enter__()
        entered.append(frame)

    def after(module: Any, given: Any, made: Any) -> None:
        if entered:
            entered.pop().__exit__(None, None, None)

    handles = [
        modules.register_module_forward_pre_hook(before),
        modules.register_module_forward_hook(after, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
