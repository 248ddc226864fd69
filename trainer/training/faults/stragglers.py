"""Which rank is slower than the others, and by how much.

What a rank spends in collectives is time for which it waits for others, so ranks are compared by what they do alone:
wait for data and run forward passes. (At ZeRO 3 a forward pass gathers weights and tells nothing; data alone is
compared there.) Each rank keeps its own times; once in a while one small collective compares their medians.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from statistics import median, median_low

from trainer.config import FaultsConfig
from trainer.training.distributed import World
from trainer.training.hooks import Hook, StepResult

LEAST_SECONDS = 0.005  # less than this a step is no news


class Stragglers(Hook):
    def __init__(self, config: FaultsConfig, world: World, report: Callable[[str, int, str], None]) -> None:
        """`report(event, step, text)` writes to the logbook."""
        self.config, self.world, self.report = config, world, report
        self._seconds: list[float] = []

    def step_ended(self, result: StepResult) -> None:
        self.compare(result.alone_seconds, result.step)

    def compare(self, alone_seconds: float, step: int) -> None:
        """A step has ended in which this rank worked alone for so long. Collective, once in a while."""
        if self.world.size == 1:
            return
        self._seconds.append(alone_seconds)
        if len(self._seconds) == self.config.straggler_steps:
            ranks = self.world.gather((median(self._seconds), socket.gethostname()))
            self._seconds = []
            usual = median_low(seconds for seconds, _ in ranks)
            for rank, (seconds, host) in enumerate(ranks):
                if seconds > usual * self.config.straggler_factor and seconds > usual + LEAST_SECONDS:
                    late = f"{1e3 * (seconds - usual):.0f} ms a step later than the median rank's {1e3 * usual:.0f} ms"
                    self.report("straggler", step, f"rank {rank} on {host} is {late}")
