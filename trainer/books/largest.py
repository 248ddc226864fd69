"""The largest model that a budget trains, for a given length or on enough tokens: `isoflop plan --largest`."""

from __future__ import annotations

import math

from trainer.books.fitting import fit
from trainer.books.parameters import parameters
from trainer.books.plan import plan
from trainer.books.run_length import known_steps
from trainer.books.size_dial import turned
from trainer.config import Config
from trainer.utils.errors import UserError

SMALLEST, LARGEST = 1e4, 1e13  # parameters between which is searched
HALVINGS = 20
CHINCHILLA = 20.0  # tokens a parameter: what Hoffmann et al. 2022, table 3, comes to for every size


def largest(config: Config, tokens_per_parameter: float | None = None) -> Config:
    """`config` with the most parameters in its preset's proportions such that its steps or tokens are trained before a
    measured budget is used up, and that it fits the machine's memory where that is stated.

    A budget of FLOPs is a length that the size changes: it goes to the largest model that still sees so many tokens a
    parameter (20). Raises UserError where there is nothing to search by: no length, nothing that limits, a step whose
    cost is unknown.
    """
    budget = config.budget
    if budget.steps is budget.tokens is budget.flop is None:
        raise UserError("plan --largest: state the run's length, budget.steps, budget.tokens or budget.flop")
    if not budget.measured and budget.flop is None and config.machine.memory_bytes is None:
        raise UserError(
            "plan --largest: state what limits the run: budget.flop, budget.hours, budget.kwh, budget.kgco2e, "
            "budget.money, or a machine with machine.memory_bytes"
        )
    if budget.flop is None and tokens_per_parameter is not None:
        raise UserError("tokens_per_parameter: only budget.flop leaves the tokens open")
    wanted = (tokens_per_parameter or CHINCHILLA) if budget.flop is not None else 0.0
    best, low, high = None, math.log(SMALLEST), math.log(LARGEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = _of_size(config, math.exp(middle))
        if found is None:  # smaller than the smallest of its kind
            low = middle
        elif _long_enough(found, wanted) and _affordable(found):
            best, low = found, middle
        else:
            high = middle
    if best is None:
        raise UserError(f"plan --largest: no size of {config.model.name} fits this budget")
    return best


def size_of(config: Config) -> int:
    """The size that the dial gives this model at: what model.size counts."""
    return parameters(config).published


def _of_size(config: Config, size: float) -> Config | None:
    try:
        dialled = config.model.model_copy(update={"size": round(size)})
        return config.model_copy(update={"model": turned(dialled, config.vocabulary, config.max_length)})
    except ValueError:
        return None


def _long_enough(config: Config, tokens_per_parameter: float) -> bool:
    steps = known_steps(config) or 0
    return steps > 0 and config.curriculum.tokens(steps) >= tokens_per_parameter * size_of(config)


def _affordable(config: Config) -> bool:
    if fit(config).fits is False:
        return False
    tag = plan(config)
    steps, step = tag["data.steps"].planned, tag["time.step"].planned
    assert steps is not None and step is not None
    if config.budget.measured and step.value is None:
        raise UserError(f"plan --largest: the time of a step is not known; state {step.source}")
    return steps.value == known_steps(config)
