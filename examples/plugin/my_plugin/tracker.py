"""losses.csv: a line for each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.trackers.records import EvaluationRecord, Event, StepRecord
from trainer.trackers.tracker import RunContext


class CsvTracker:
    name = "losses.csv"

    def __init__(self, config: Config, run: Path, resumed_from: int) -> None:
        self.file = run / "losses.csv"

    def start(self, context: RunContext) -> None:
        if not context.resumed_from:
            self.file.write_text("step,loss\n")

    def step(self, record: StepRecord) -> None:
        with self.file.open("a") as file:
            file.write(f"{record.step},{record.loss}\n")

    def evaluation(self, record: EvaluationRecord) -> None:
        pass

    def event(self, event: Event) -> None:
        pass

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        pass
