"""The time that a device spends in `with` blocks, without waiting for it."""

from __future__ import annotations

import time
from typing import Any

import torch


class Stopwatch:
    """Adds up the blocks since the last `clear`. On a GPU the stream keeps the time: read it once synchronized."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._blocks: list[tuple[Any, Any]] = []
        self._began: Any = None

    def clear(self) -> None:
        self._blocks.clear()

    def seconds(self) -> float:
        if self._cuda:
            return sum(begin.elapsed_time(end) for begin, end in self._blocks) / 1e3
        return sum(end - begin for begin, end in self._blocks)

    def __enter__(self) -> None:
        self._began = self._now()

    def __exit__(self, *_: object) -> None:
        self._blocks.append((self._began, self._now()))

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
