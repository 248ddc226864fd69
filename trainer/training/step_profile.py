"""What a few steps of a run do, operator by operator: a hook that traces some of them and counts one.

The first steps are left alone and timed; then come those under PyTorch's profiler, by phase, module and operator; then
one whose operators, bytes and floating-point operations are counted by PyTorch's dispatcher. Counting slows a step and
changes nothing in it: losses are those of the same run without the hook.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from trainer.training.hooks import Hook, StepResult

UNTOUCHED = 3  # steps before the first that is traced; the very first one also makes the optimizer's states
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
# Operators that launch nothing, or only make room.
NOTHING = {"detach", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}
NOTHING |= {"promote_types"}


class Measured(NamedTuple):
    """What was found of one step of one rank."""

    step_seconds: float  # median of the untouched steps but the first
    traced_seconds: float  # median of the traced steps
    operators: int  # without views
    product_flop: int
    attention_flop: int  # of fused attention
    other_bytes: int  # read and written by what is no product and no fused attention
    memory_peak_bytes: int  # of the device's allocator, or of the process on a CPU
    kinds: dict[str, int]  # operators by name


class StepProfile(Hook):
    """Traces `steps` steps after UNTOUCHED ones, and counts the one after; `trace` is the file for the trace."""

    def __init__(self, steps: int, trace: Path) -> None:
        self.steps, self.trace = steps, trace
        self.frames: list[Frame] = []
        self.measured: Measured | None = None
        self._seconds: list[float] = []
        self._began = 0.0
        self._profiler: Any = None
        self._inside = contextlib.ExitStack()  # of the steps that are traced
        self._phase: Any = None
        self._counted: Any = None

    def step_began(self, step: int) -> None:
        if step == UNTOUCHED:
            with _quiet():
                self._profiler = self._inside.enter_context(_profiler())
            self._inside.enter_context(_modules_named())
        elif step == UNTOUCHED + self.steps and self._counted is None:
            self._counted = counting()
            self._counted.__enter__()
        self._began = time.perf_counter()

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
        self._seconds.append(time.perf_counter() - self._began)
        if result.step == UNTOUCHED + self.steps:
            self._leave_phase()
            profiler, self._profiler = self._profiler, None
            with _quiet():
                self._inside.close()
            self.trace.parent.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(self.trace))
            self.frames = frames_of(profiler.events())
        elif self._counted is not None and self.measured is None:
            self._counted.__exit__(None, None, None)
            counts, kinds = self._counted.counts, self._counted.kinds
            self.measured = Measured(
                step_seconds=median(self._seconds[1:UNTOUCHED]),
                traced_seconds=median(self._seconds[UNTOUCHED : UNTOUCHED + self.steps]),
                operators=counts["operators"],
                product_flop=counts["product_flop"],
                attention_flop=counts["attention_flop"],
                other_bytes=counts["other_bytes"],
                memory_peak_bytes=result.memory_peak_bytes,
                kinds=dict(kinds.most_common()),
            )

    def closed(self, status: str, step: int, text: str) -> None:
        """Leave what an early end found open."""
        self._leave_phase()
        self._inside.close()
        if self._counted is not None and self.measured is None:
            self._counted.__exit__(None, None, None)


class Frame(NamedTuple):
    """What took time inside another: its name after those around it, and its seconds, all of one name added."""

    path: tuple[str, ...]
    seconds: float


def frames_of(events: Any) -> list[Frame]:
    """Every operator, module and phase of the host, by the names around it; seconds contain those of what is inside."""
    seconds: Counter[tuple[str, ...]] = Counter()
    for event in events:
        path, around = [event.name], event.cpu_parent
        while around is not None:
            path.append(around.name)
            around = around.cpu_parent
        seconds[tuple(reversed(path))] += event.cpu_time_total / 1e6  # microseconds
    return [Frame(path, taken) for path, taken in sorted(seconds.items())]


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


def counting() -> Any:
    """A dispatch mode with `counts` (operators, product_flop, attention_flop, other_bytes) and `kinds` by name."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Counting(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.counts: Counter[str] = Counter()
            self.kinds: Counter[str] = Counter()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            name = launched(func)
            if name is None:
                return made
            self.counts["operators"] += 1
            self.kinds[name] += 1
            if name in PRODUCTS:
                self.counts["product_flop"] += _product_flop(name, args)
            elif name.startswith(("_scaled_dot_product", "_flash_attention", "_efficient_attention")):
                self.counts["attention_flop"] += _attention_flop(name, args)
            else:
                tensors = [one for one in tree_leaves((args, kwargs, made)) if isinstance(one, Tensor)]
                self.counts["other_bytes"] += sum(one.numel() * one.element_size() for one in tensors)
            return made

    return Counting()


def launched(func: Any) -> str | None:
    """The name of an operator; None where it launches nothing, as a view does, or what only makes room."""
    (space, name), returned = func._schema.name.split("::"), func._schema.returns
    views = any(one.alias_info is not None and not one.alias_info.is_write for one in returned)
    return None if views or name in NOTHING or space in ("prim", "profiler") else name


def _product_flop(name: str, args: Any) -> int:
    """2mnk of [.., m, k] with [.., k, n]."""
    left, right = args[1:3] if name in ("addmm", "baddbmm") else args[:2]
    return int(2 * left.numel() * right.shape[-1])


def _attention_flop(name: str, args: Any) -> int:
    """Two products forward, five backward (Dao et al. 2022, section 3.1), of the full square of queries and keys."""
    backward = "backward" in name
    query, key = args[1:3] if backward else args[:2]
    return int((5 if backward else 2) * 2 * query.numel() * key.shape[-2])
