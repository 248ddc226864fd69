"""From samples to a rank's micro-batches, one step ahead of the model."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trainer.config import Curriculum
from trainer.data.samples import blank
from trainer.data.usage import DataUsage
from trainer.objectives import PADDING, Batch

AHEAD = 2  # steps that may wait ready, beside one for each worker


class Examples(Protocol):
    """What a run reads: samples by their numbers, from a corpus or from a task."""

    pad: int  # token of padding

    def __len__(self) -> int:
        """Samples of one epoch."""
        ...

    def batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1 of the endless run; the first axis of every array is stop - start."""
        ...

    def where(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Where each of these samples begins: its document, and the tokens of that which lie before."""
        ...

    def usage(self, stop: int) -> list[DataUsage]:
        """Where samples 0..stop-1 came from."""
        ...


@dataclass(frozen=True)
class StepBatch:
    """One rank's share of one step."""

    step: int
    micro_batches: list[Batch]
    seconds_waited: float  # that the consumer stood still for this batch

    @property
    def padding(self) -> tuple[int, int]:
        """(padding, positions) of its samples, both sides of an encoder-decoder; rows that are blank are no samples."""
        padding = positions = 0
        for batch in self.micro_batches:
            for name in ("segments", "source_segments"):
                if name in batch:
                    empty = batch[name] == PADDING
                    samples = ~empty.all(axis=-1)
                    positions += int(samples.sum()) * empty.shape[-1]
                    padding += int(empty[samples].sum())
        return padding, positions


class StepLoader:
    """Step s reads the samples that the curriculum gives it; ranks and micro-batches only divide that range.

    Every rank yields the same number of micro-batches of the same shape; where it has fewer samples the rest are blank.
    """

    def __init__(
        self,
        samples: Examples,
        *,
        curriculum: Curriculum,
        micro_batch: Callable[[int], int],
        rank: int,
        world_size: int,
        numbered: bool = False,
    ) -> None:
        """micro_batch: samples of one micro-batch, by those of the step. numbered: batches have `samples` too, int64
        [B], or [B, rows] where a sample is several: a row's number in the run, -1 where it is blank."""
        self.samples, self.curriculum, self.micro_batch = samples, curriculum, micro_batch
        self.rank, self.world_size, self.numbered = rank, world_size, numbered

    def step(self, step: int) -> list[Batch]:
        """The micro-batches of one step."""
        first, last = self.curriculum.batch(step)
        share, rows = -(-(last - first) // self.world_size), self.micro_batch(last - first)
        start = min(first + self.rank * share, last)
        stop = min(start + share, last)
        return [
            self._micro_batch(start + k * rows, min(start + (k + 1) * rows, stop), rows, first)
            for k in range(-(-share // rows))
        ]

    def _micro_batch(self, start: int, stop: int, rows: int, first: int) -> Batch:
        """Samples start..stop-1 and blanks behind them, `rows` in all; `first` is a sample of the same step."""
        if start >= stop:
            template = self._samples(first, first + 1)
            return {name: np.repeat(row, rows, axis=0) for name, row in blank(template, self.samples.pad).items()}
        batch = self._samples(start, stop)
        missing = rows - (stop - start)
        if missing:
            row = blank({name: array[:1] for name, array in batch.items()}, self.samples.pad)
            batch = {
                name: np.concatenate([array, np.repeat(row[name], missing, axis=0)]) for name, array in batch.items()
            }
        return batch

    def _samples(self, start: int, stop: int) -> Batch:
        batch = self.samples.batch(start, stop)
        if self.numbered:
            rows = batch["tokens"].shape[:-1]
            several = int(np.prod(rows[1:], dtype=np.int64))
            batch["samples"] = np.arange(start * several, stop * several).reshape(rows)
        return batch

    def steps(self, first: int, last: int | None = None, workers: int = 1) -> Generator[StepBatch, None, None]:
        """Steps first..last-1, or without an end. workers: threads that draw ahead; 0: none. The batches are the same.

        The threads end with the iterator, and what they raise is raised here.
        """
        numbers = itertools.count(first) if last is None else iter(range(first, last))
        if not workers:
            for step in numbers:
                begun = time.perf_counter()
                yield StepBatch(step, self.step(step), time.perf_counter() - begun)
            return
        pool = ThreadPoolExecutor(workers, "data")
        try:
            ahead = deque((step, pool.submit(self.step, step)) for step in itertools.islice(numbers, workers + AHEAD))
            while ahead:
                begun = time.perf_counter()
                step, drawn = ahead.popleft()
                batch = StepBatch(step, drawn.result(), time.perf_counter() - begun)
                ahead.extend((step, pool.submit(self.step, step)) for step in itertools.islice(numbers, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)
