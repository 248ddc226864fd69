"""A second plan, made when the first steps of a run were measured: the same rows, with times at their pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from trainer.books.plan import plan
from trainer.books.quantity import PriceTag
from trainer.books.step_work import Work, work
from trainer.config import Config, StepShape

STEPS = 5  # that are measured; the first of them also warms up
DRIFT = 0.1  # that the rest of a run may be off, whatever so few steps say


@dataclass(frozen=True)
class StepsPace:
    """Seconds per operation of one rank, as a run's own steps took them, and the ends of what they took."""

    rate: float
    low: float
    high: float
    count: int

    @property
    def source(self) -> str:
        return f"the first {self.count} steps of this run"

    def seconds(self, work: Work) -> float:
        return self.rate * _flop(work)

    def bounds(self, seconds: float) -> tuple[float, float | None]:
        return seconds * self.low / self.rate, seconds * self.high / self.rate


def _flop(work: Work) -> float:
    return work.product_flop + work.score_flop


def pace_of(config: Config, taken: Sequence[tuple[StepShape, float]]) -> StepsPace:
    """Of two steps or more, each with its shape and its seconds."""
    rates = [seconds / _flop(work(config.at_shape(shape))) for shape, seconds in taken]
    likely, warm = median(rates), rates[1:]
    return StepsPace(likely, min(*warm, likely * (1 - DRIFT)), max(*warm, likely * (1 + DRIFT)), len(taken))


def second_plan(config: Config, taken: Sequence[tuple[StepShape, float]]) -> PriceTag:
    """The plan of `config`, timed by these steps. What a policy's answers take of a step is left to the records."""
    tag = plan(config, pace=pace_of(config, taken))
    rows = tuple(row for row in tag.rows if row.key != "time.generation")
    return replace(tag, title=f"{config.model.name}: the price tag after {len(taken)} steps", rows=rows)
