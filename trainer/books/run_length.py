"""How long a run is: steps and tokens, where need be counted from a budget of FLOPs."""

from __future__ import annotations

from trainer.books.step_flops import flop_per_step
from trainer.config import Config, OptimConfig, StepShape
from trainer.descriptions.schedules import SCHEDULES
from trainer.descriptions.schedules.pieces import in_steps
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


VALUE_SCHEDULES = ("weight_decay_schedule", "momentum_schedule")


def optim_in_steps(config: Config, total_steps: int) -> OptimConfig:
    """The group `optim` with what its schedules state in tokens as whole steps of a run of `total_steps`."""
    curriculum, optim = config.curriculum, config.optim
    found: OptimConfig = SCHEDULES[optim.schedule].in_steps(optim, curriculum, total_steps)
    values = {name: in_steps(getattr(optim, name), curriculum, total_steps) for name in VALUE_SCHEDULES}
    return found.model_copy(update=values)


def warmup_steps(optim: OptimConfig, total_steps: int) -> int:
    """Updates in which the rate rises: as stated, else a tenth of the run, but no more than 2,000."""
    schedule = SCHEDULES[optim.schedule]
    if schedule.warms_up:
        return schedule.warmup_steps(optim, total_steps)
    return optim.warmup_steps if optim.warmup_steps is not None else min(total_steps // 10, 2000)


def length_misfits(config: Config) -> list[str]:
    """What is wrong with a run's length, a line each: a budget that holds no step, a warm-up or a checkpoint that is
    behind its end."""
    steps = known_steps(config)
    if steps == 0:
        first = _flop_per_step(config)[config.curriculum.shapes[0]]
        return [f"budget.flop: {config.budget.flop:g} given, one step takes {first:g} FLOP"]
    if steps is not None and (config.optim.warmup_steps or 0) > steps:
        return [f"optim.warmup_steps: {config.optim.warmup_steps} is more than the run's {steps} steps"]
    if steps is None:
        return []
    return [*_long_schedules(config, steps), *_too_late(config, steps)]


def _too_late(config: Config, steps: int) -> list[str]:
    """A line for each step that is named and that the run does not come to."""
    late = [step for step in config.checkpoint.at_steps if step > steps]
    wrong = [f"checkpoint.at_steps: {', '.join(map(str, late))} given, the run ends after step {steps}"] if late else []
    for name, average in config.optim.averages.items():
        if (average.every_steps or 0) > steps:
            key = f"optim.averages.{name}.every_steps"
            wrong.append(f"{key}: {average.every_steps} given, the run ends after step {steps} and none is taken")
    return wrong


def _long_schedules(config: Config, steps: int) -> list[str]:
    """A line for each schedule that is longer than the run."""
    optim, curriculum = optim_in_steps(config, steps), config.curriculum
    stated = {f"optim.{optim.schedule}": SCHEDULES[optim.schedule].steps_stated(optim, steps)}
    for name in VALUE_SCHEDULES:
        stated[f"optim.{name}"] = sum(piece.length(steps) or 0 for piece in getattr(optim, name))
    wrong = [
        f"{name}: {most} steps in all{_by_piece(optim, name, steps)}, the run has {steps}; give pieces a share, or "
        "leave the length of one out"
        for name, most in stated.items()
        if most > steps
    ]
    if curriculum.stretch(steps - 1).shape.batch_size < config.optim.batch_size:
        tokens = sum(stage.tokens for stage in config.optim.batch_warmup)
        wrong.append(
            f"optim.batch_warmup: {tokens:,} tokens in all, the run has {curriculum.tokens(steps):,}: it never "
            f"comes to optim.batch_size {config.optim.batch_size}"
        )
    return wrong


def _by_piece(optim: OptimConfig, name: str, steps: int) -> str:
    """The lengths that make up a schedule of several: ` (warmup 1, linear 20)`; `optim.decay` is one of them."""
    lengths = [(piece.shape, piece.length(steps)) for piece in getattr(optim, name.removeprefix("optim."), ())]
    stated = [f"{shape} {length}" for shape, length in lengths if length]
    return f" ({', '.join(stated)})" if len(stated) > 1 else ""


def _flop_per_step(config: Config) -> dict[StepShape, float]:
    """Shape of a step -> its model FLOPs, as budget.flop counts them."""
    return {shape: flop_per_step(config.at_shape(shape)) for shape in config.curriculum.shapes}
