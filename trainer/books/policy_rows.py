"""The rows of a price tag that tell what a policy's step consists of."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from trainer.books.calibration import Pace
from trainer.books.clock import seconds_of
from trainer.books.flops import flops
from trainer.books.quantity import Quantity, Row, estimated, exact, measured_quantity, not_stated
from trainer.books.records import Steps
from trainer.books.step_work import generation_work
from trainer.config import Config

AT_MOST = "as if every answer had task.max_new_tokens"
# Phase of a step -> its row: key, name.
PARTS = {
    "generation": ("generation", "writing answers"),
    "reward": ("reward", "rewarding them"),
    "reference": ("reference", "reading them by the reference"),
    "forward_backward": ("learning", "learning from them"),
}


def step_parts(config: Config) -> dict[str, int]:
    """Operations of one step over all ranks by phase; they add up to the step's."""
    account = flops(config)
    written, reference = account.rollouts, account.samples_per_step * account.forward_only
    return {
        "generation": written.generation,
        "reward": written.reward,
        "reference": reference,
        "forward_backward": account.per_step - written.total - reference,
    }


def planned_flops(config: Config, over_steps: Callable[[Callable[[int], Quantity]], Quantity]) -> list[Row]:
    """Of the whole run, by part. over_steps: a quantity of so many steps, over those that are planned."""
    if not config.task.writes:
        return []

    def of_run(phase: str, part: int) -> Quantity:
        return over_steps(lambda steps: exact(steps * part, AT_MOST if phase == "generation" else ""))

    return [
        Row(f"flop.{PARTS[phase][0]}", f"  {PARTS[phase][1]}", "FLOP", of_run(phase, part))
        for phase, part in step_parts(config).items()
    ]


def planned_seconds(config: Config, calibration: Pace | None) -> list[Row]:
    """Of a step: what writing takes of it."""
    if not config.task.writes:
        return []
    seconds = seconds_of(config, generation_work(config), calibration)
    if seconds.value is not None:
        seconds = estimated(seconds.value, f"{seconds.source}; {AT_MOST}", seconds.low, seconds.high)
    return [Row("time.generation", f"  {PARTS['generation'][1]}", "s", seconds)]


def measured_seconds(config: Config, steps: Steps) -> list[Row]:
    """Of a step, by part: the medians."""
    if not config.task.writes:
        return []
    rows = []
    for phase, (key, name) in PARTS.items():
        values = [record.get("seconds", {}).get(phase, 0.0) for record in steps.kept]
        found = measured_quantity(median(values), "median over steps") if values else not_stated("no step yet")
        rows.append(Row(f"time.{key}", f"  {name}", "s", measured=found))
    return rows
