"""The largest gradient norm of an attempt."""

from __future__ import annotations

from pathlib import Path

from trainer.config import Config
from trainer.training.hooks import Hook, StepResult


class LargestNorm(Hook):
    def __init__(self, config: Config, run: Path) -> None:
        self.file = run / config.hooks.largest_norm
        self.norm = 0.0

    def step_ended(self, result: StepResult) -> None:
        self.norm = max(self.norm, result.grad_norm)

    def closed(self, status: str, step: int, text: str) -> None:
        self.file.write_text(f"{self.norm} {status} {step}\n")
