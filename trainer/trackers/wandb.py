"""Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.events import EvaluationRecord, Event, StepRecord
from trainer.trackers.tracker import RunContext, warn


class WandbTracker:
    name = "wandb"

    def __init__(self, config: Config, run: Path, *, resumed_from: int) -> None:
        pass

    def start(self, context: RunContext) -> None:
        warn("wandb: not there yet; use tracker.wandb=disabled")

    def step(self, record: StepRecord) -> None: ...
    def evaluation(self, record: EvaluationRecord) -> None: ...
    def event(self, event: Event) -> None: ...
    def finish(self, status: str, summary: dict[str, Any]) -> None: ...
