"""From samples to a rank's micro-batches, one step ahead of the model."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trainer.data.reading import Reading
from trainer.data.samples import blank
from trainer.objectives import Batch

AHEAD = 2  # steps that wait ready


class Examples(Protocol):
    """What a run reads: samples by their numbers, from a corpus or from a task."""

    pad: int  # token of padding

    def __len__(self) -> int:
        """Samples of one epoch."""
        ...

    def batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1 of the endless run; the first axis of every array is stop - start."""
        ...

    def readings(self, stop: int) -> list[Reading]:
        """Where samples 0..stop-1 came from."""
        ...


@dataclass(frozen=True)
class StepBatch:
    """One rank's share of one step."""

    step: int
    micro_batches: list[Batch]
    seconds_waited: float  # that the consumer stood still for this batch


class StepLoader:
    """Step s reads samples [s B, (s + 1) B); ranks and micro-batches only divide that range.

    Every rank yields the same number of micro-batches of the same shape; where it has fewer samples the rest are blank.
    """

    def __init__(self, samples: Examples, *, batch_size: int, micro_batch: int, rank: int, world_size: int) -> None:
        share = -(-batch_size // world_size)
        self.samples, self.batch_size, self.micro_batch = samples, batch_size, micro_batch
        self.begin = min(rank * share, batch_size)
        self.end = min(self.begin + share, batch_size)
        self.micro_batches = -(-share // micro_batch)

    def step(self, step: int) -> list[Batch]:
        """The micro-batches of one step."""
        first = step * self.batch_size
        start, stop = first + self.begin, first + self.end
        return [
            self._micro_batch(start + k * self.micro_batch, min(start + (k + 1) * self.micro_batch, stop), first)
            for k in range(self.micro_batches)
        ]

    def _micro_batch(self, start: int, stop: int, first: int) -> Batch:
        """Samples start..stop-1 and blanks behind them; `first` is a sample of the same step."""
        if start >= stop:
            template = self.samples.batch(first, first + 1)
            return {
                name: np.repeat(row, self.micro_batch, axis=0)
                for name, row in blank(template, self.samples.pad).items()
            }
        batch = self.samples.batch(start, stop)
        missing = self.micro_batch - (stop - start)
        if missing:
            row = blank({name: array[:1] for name, array in batch.items()}, self.samples.pad)
            batch = {
                name: np.concatenate([array, np.repeat(row[name], missing, axis=0)]) for name, array in batch.items()
            }
        return batch

    def steps(self, first: int, last: int | None = None) -> Generator[StepBatch, None, None]:
        """Steps first..last-1, or without an end. One thread draws ahead; it ends with the iterator, and what it
        raises is raised here."""
        ready: queue.Queue[tuple[int, list[Batch] | BaseException]] = queue.Queue(maxsize=AHEAD)
        closed = threading.Event()

        def numbers() -> Iterable[int]:
            return itertools.count(first) if last is None else range(first, last)

        def offer(item: tuple[int, list[Batch] | BaseException]) -> None:
            while not closed.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return
                except queue.Full:
                    pass

        def draw() -> None:
            step = first
            try:
                for step in numbers():
                    if closed.is_set():
                        return
                    offer((step, self.step(step)))
            except BaseException as error:  # handed over to the consumer, whatever it is
                offer((step, error))

        thread = threading.Thread(target=draw, name="data", daemon=True)
        thread.start()
        try:
            for _ in numbers():
                begun = time.perf_counter()
                step, drawn = ready.get()
                if isinstance(drawn, BaseException):
                    raise drawn
                yield StepBatch(step, drawn, time.perf_counter() - begun)
        finally:
            closed.set()
            thread.join()
