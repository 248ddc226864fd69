"""slow_steps.<rank>.txt: which steps of a rank took long, written when the attempt ends."""

from __future__ import annotations

import os
import time
from pathlib import Path

from trainer.config import Config
from trainer.training.hooks import Hook, StepResult


class SlowSteps(Hook):
    def __init__(self, config: Config, run: Path) -> None:
        self.most = config.hooks.slow_seconds
        self.file = run / f"slow_steps.{os.environ.get('RANK', 0)}.txt"
        self.began = time.monotonic()
        self.slow: list[int] = []

    def step_began(self, step: int) -> None:
        self.began = time.monotonic()

    def step_ended(self, result: StepResult) -> None:
        if time.monotonic() - self.began > self.most:
            self.slow.append(result.step)

    def closed(self, status: str, step: int, text: str) -> None:
        with self.file.open("a") as file:
            file.writelines(f"{one}\n" for one in self.slow)
