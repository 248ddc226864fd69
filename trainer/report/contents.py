"""Everything a report says, read from the run's folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.books import PriceTag, measured
from trainer.books.records import Steps, read_lines, read_object, read_steps
from trainer.config import Config, load
from trainer.errors import UserError


@dataclass(frozen=True)
class Contents:
    """A run, as its folder tells it."""

    run: Path
    config: Config
    tag: PriceTag
    steps: Steps
    events: list[dict[str, Any]]
    environment: dict[str, Any]
    overrides: str

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation with the lowest held-out loss."""
        scored = [item for item in self.steps.evaluations if isinstance(item.get("loss"), int | float)]
        return min(scored, key=lambda item: item["loss"], default=None)

    @property
    def status(self) -> str:
        """`finished`, `stopped`, `failed`, or `interrupted` where the process could say nothing any more."""
        for event in reversed(self.events):
            said = event.get("data", {}).get("status") if isinstance(event.get("data"), dict) else None
            if isinstance(said, str):
                return said
            if event.get("name") in ("start", "resume"):
                break
        reached = self.steps.kept[-1]["step"] if self.steps.kept else 0
        return "finished" if reached >= self.config.steps else "interrupted"


def read_run(run: Path) -> Contents:
    """Read a run folder. Raises `UserError` where there is none."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: not a run folder (it has no config.yaml); give runs/<experiment>/<run id>")
    tag = measured(run)
    planned = read_object(run / "plan.json")
    if planned.get("rows"):
        tag = PriceTag.from_json(planned).beside(tag)
    overrides = run / "overrides.txt"
    return Contents(
        run=run,
        config=load(run / "config.yaml"),
        tag=tag,
        steps=read_steps(run),
        events=read_lines(run / "events.jsonl"),
        environment=read_object(run / "environment.json"),
        overrides=overrides.read_text() if overrides.is_file() else "",
    )
