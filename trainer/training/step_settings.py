"""What the optimizer is told of each update: a function of the step, so nothing to save and nothing to restore."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainer.books.run_length import optim_in_steps, warmup_steps
from trainer.config import Config
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.training.lr_schedule import learning_rate
from trainer.training.schedules import value


@dataclass(frozen=True)
class StepSettings:
    """Of one update. None: no schedule changes it."""

    lr: float
    weight_decay: float | None
    momentum: float | None
    warming_up: bool  # whether the rate still rises to its peak


def step_settings(config: Config, step: int, total_steps: int) -> StepSettings:
    """Of update number `step`, counted from 0 to total_steps - 1."""
    return settings_along(config, total_steps)(step)


def settings_along(config: Config, total_steps: int) -> Callable[[int], StepSettings]:
    """The same as a function of the step, for who asks for many."""
    optim = optim_in_steps(config, total_steps)
    decay, momentum = optim.weight_decay_schedule, optim.momentum_schedule
    key, warmup = OPTIMIZERS[optim.name].momentum, warmup_steps(optim, total_steps)

    def at(step: int) -> StepSettings:
        return StepSettings(
            lr=learning_rate(optim, step, total_steps),
            weight_decay=value(decay, optim.weight_decay, step, total_steps) if decay else None,
            momentum=value(momentum, getattr(optim, key), step, total_steps) if momentum and key else None,
            warming_up=step < warmup,
        )

    return at


def scheduled(config: Config, settings: StepSettings, batch: int) -> dict[str, float]:
    """What changes along this run beside the rate, by name, in an update on batch number `batch`: for its record."""
    found = {"weight_decay": settings.weight_decay, "momentum": settings.momentum}
    if config.optim.batch_warmup:
        found["batch_size"] = config.curriculum.stretch(batch).shape.batch_size
    return {name: value for name, value in found.items() if value is not None}
