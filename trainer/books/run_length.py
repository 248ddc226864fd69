"""How long a run is: steps and tokens, where need be counted from a budget of FLOPs."""

from __future__ import annotations

from trainer.books.step_flops import flop_per_step
from trainer.config import Config, OptimConfig
from trainer.descriptions.schedules import SCHEDULES
from trainer.utils.errors import UserError


def known_steps(config: Config) -> int | None:
    """Optimizer steps of the whole run, on any machine; None where only measured budgets end it."""
    budget, curriculum = config.budget, config.curriculum
    if budget.tokens is not None:
        return curriculum.steps(budget.tokens)
    if budget.flop is not None:
        return curriculum.steps_within(budget.flop, _flop_per_step(config))
    return budget.steps


def run_steps(config: Config) -> int:
    """Optimizer steps of the whole run. Raises UserError where only measured budgets end it."""
    steps = known_steps(config)
    if steps is None:
        stated = ", ".join(f"budget.{name}" for name in config.budget.measured)
        raise UserError(f"{stated}: how many steps this buys shows while it runs; state budget.steps too")
    return steps


def run_tokens(config: Config) -> int:
    """Training tokens of the whole run. Raises UserError as `run_steps` does."""
    return config.curriculum.tokens(run_steps(config))


def warmup_steps(optim: OptimConfig, total_steps: int) -> int:
    """Updates in which the rate rises: as stated, else a tenth of the run, but no more than 2,000."""
    schedule = SCHEDULES[optim.schedule]
    if schedule.warms_up:
        return schedule.warmup_steps(optim, total_steps)
    return optim.warmup_steps if optim.warmup_steps is not None else min(total_steps // 10, 2000)


def length_misfits(config: Config) -> list[str]:
    """What is wrong with a run's length, a line each: a budget that holds no step, a warm-up that is longer."""
    steps = known_steps(config)
    if steps == 0:
        first = _flop_per_step(config)[config.curriculum.sequence_lengths[0]]
        return [f"budget.flop: {config.budget.flop:g} given, one step takes {first:g} FLOP"]
    if steps is not None and (config.optim.warmup_steps or 0) > steps:
        return [f"optim.warmup_steps: {config.optim.warmup_steps} is more than the run's {steps} steps"]
    if steps is not None:
        stated = SCHEDULES[config.optim.schedule].steps_stated(config.optim, steps)
        if stated > steps:
            return [f"optim.{config.optim.schedule}: {stated} steps in all, the run has {steps}"]
    return []


def _flop_per_step(config: Config) -> dict[int, float]:
    """Sequence length -> model FLOPs of one step, as budget.flop counts them."""
    return {length: flop_per_step(config.at_length(length)) for length in config.curriculum.sequence_lengths}
