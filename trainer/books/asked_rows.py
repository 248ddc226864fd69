"""The rows of a price tag that tell what is asked of a model while it trains."""

from __future__ import annotations

from collections.abc import Callable

from trainer.books.formatting import format_amount
from trainer.books.layout import zero_stage
from trainer.books.parameters import parameters
from trainer.books.quantity import Quantity, Row, estimated, measured_quantity
from trainer.books.records import Steps
from trainer.config import Config
from trainer.descriptions.evaluations import evaluations_on
from trainer.descriptions.registry import imported

FLOP, TIME = ("flop.tasks", "FLOPs of asking tasks", "FLOP"), ("time.tasks", "time of asking tasks", "s")


def times_asked(config: Config, steps: int) -> int:
    """How often a run that ends after so many steps asks; of a branch in its own steps."""
    evaluation, curriculum, first = config.evaluation, config.curriculum, config.branch.step or 0
    if not evaluation.asks:
        return 0
    every = evaluation.tasks_every_steps
    if (each := evaluation.tasks_every_tokens) is not None:
        reached = {step: curriculum.tokens(step) // each for step in (first, steps - 1, steps)}
        return int(min(steps - first, reached[steps] - reached[first])) + (reached[steps] == reached[steps - 1])
    every = evaluation.every_steps if every is None else every
    return 1 if every is None else steps // every - first // every + (steps % every > 0)


def planned_asking(
    config: Config, over_steps: Callable[[Callable[[int], Quantity]], Quantity], pace: Quantity
) -> list[Row]:
    """Of the whole run. over_steps: a quantity of so many steps, over those that are planned. pace: FLOP in a second.

    Raises UserError where what is to be asked cannot be.
    """
    counted = [one for one in evaluations_on(config.evaluation) if one.flop is not None]
    if not counted:
        return []
    once = sum(imported(one.flop)(config) for one in counted if one.flop is not None)

    def of_run(steps: int) -> Quantity:
        times = times_asked(config, steps)
        return estimated(times * once, f"asked {times} times; prompts at 4 bytes a token")

    flop = over_steps(of_run)
    return [Row(*FLOP, flop), Row(*TIME, estimated(1.0, "at the pace of training") * flop / pace)]


def measured_asking(steps: Steps) -> list[Row]:
    """Of the run so far."""
    seconds = [one["scores_seconds"] for one in steps.evaluations if one.get("scores_seconds")]
    if not seconds:
        return []
    return [Row(*TIME, measured=measured_quantity(sum(seconds), f"clock, asked {len(seconds)} times"))]


def copy_note(config: Config) -> str | None:
    """What asking takes at ZeRO stage 3, which the memory of a step does not count."""
    if not config.evaluation.asks or zero_stage(config) != 3:
        return None
    copy = format_amount(4 * parameters(config).total, "bytes")
    return f"tasks are asked of a copy of the whole model: {copy} more on each rank, beside the weights' shares"
