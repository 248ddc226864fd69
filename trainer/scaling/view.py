"""One view over all runs of a sweep: live on a terminal, a line a run elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.books.run_length import run_steps
from trainer.scaling.ladder import PlannedRun


class View:
    """Told of runs as they begin and end. It has no thread of its own: runs are forked from this process."""

    def __init__(self, total: int, finished_before: int) -> None:
        self.total, self.done_count, self.failed_count = total, finished_before, 0
        self.began_at: dict[str, float] = {}
        self.console = Console(stderr=True, highlight=False)
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if sys.stderr.isatty() else None
        if finished_before:
            self.say(f"{finished_before} of {total} runs are finished already")

    def __enter__(self) -> View:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)

    def began(self, run: PlannedRun) -> None:
        self.began_at[run.name] = time.monotonic()
        if not self.live:
            self.say(f"{run.name}: started")

    def done(self, run: PlannedRun) -> None:
        self.done_count += 1
        score = _held_out(run.folder.metrics)
        self.say(f"{run.name}: finished in {self._seconds(run):.0f} s{score}  ({self.done_count}/{self.total})")

    def failed(self, run: PlannedRun, text: str) -> None:
        self.failed_count += 1
        self.say(f"{run.name}: failed: {text}")

    def show(self, running: Sequence[PlannedRun]) -> None:
        if not self.live:
            return
        rows = Table.grid(padding=(0, 2))
        for run in running:
            step, loss = _newest_step(run.folder.metrics)
            said = f"loss {loss:.3f}" if loss is not None else "starting"
            steps = run_steps(run.config)
            bar = ProgressBar(total=steps, completed=step, width=30)
            rows.add_row(run.name, bar, f"step {step}/{steps}", said, f"{self._seconds(run):.0f} s")
        whole = f"{self.done_count} of {self.total} runs finished"
        whole += f", {self.failed_count} failed" if self.failed_count else ""
        bar = ProgressBar(total=self.total, completed=self.done_count)
        self.live.update(Group(rows, bar, Text(whole)), refresh=True)

    def _seconds(self, run: PlannedRun) -> float:
        return time.monotonic() - self.began_at[run.name]


def _newest_step(metrics: Path) -> tuple[int, float | None]:
    """Step and loss of the last whole line of metrics.jsonl."""
    record = _newest(metrics, "step")
    return (int(record["step"]), record.get("loss")) if record else (0, None)


def _held_out(metrics: Path) -> str:
    record = _newest(metrics, "evaluation")
    return f", held-out loss {record['loss']:.4f}" if record and record.get("loss") is not None else ""


def _newest(metrics: Path, kind: str) -> dict[str, Any] | None:
    try:
        with open(metrics, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("kind") == kind:
            return record
    return None
