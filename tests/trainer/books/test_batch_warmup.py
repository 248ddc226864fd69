"""The books of a run whose batches grow: the sums over its steps, and its largest step."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.books import flops, memory, plan
from trainer.books.clock import step_seconds
from trainer.books.fitting import fit, largest_step
from trainer.books.layout import micro_batch, micro_batches
from trainer.books.run_length import known_steps
from trainer.books.visible import Document
from trainer.compose import compose
from trainer.config import Config
from trainer.meter.calibration import small_model
from trainer.scaling.ladder import planned_runs

WARMUP = "optim.batch_warmup=[{size: 6, tokens: 4k}, {size: 12, by: 12, tokens: 8k}]"
MACHINE = {"name": "card", "peak_flops": {"bf16": 1e12, "fp32": 1e12}, "memory_bytes": 1e9, "power_watts": 300.0}


def made(*words: str, **groups: Any) -> Config:
    small = ["data.sequence_length=64", "optim.batch_size=34", "budget.steps=40", "engine.precision=fp32"]
    given = compose([*small, WARMUP, *words]).model_dump()
    return Config.model_validate({**given, "machine": MACHINE, **groups})


def sizes(config: Config, steps: int) -> list[int]:
    return [config.curriculum.stretch(step).shape.batch_size for step in range(steps)]


def alone(config: Config, size: int) -> Config:
    """A run whose steps all have this size."""
    return config.model_copy(update={"optim": config.optim.model_copy(update={"batch_size": size, "batch_warmup": ()})})


def test_the_books_add_up_the_steps() -> None:
    config = made()
    of_steps = [alone(config, size) for size in sizes(config, 40)]
    assert {6, 12, 24, 34} == set(sizes(config, 40))
    assert flops(config).total == sum(flops(one).per_step for one in of_steps)
    tag = plan(config)
    assert tag["data.tokens"].planned.value == sum(64 * size for size in sizes(config, 40))
    assert tag["time.wall"].planned.value == pytest.approx(sum(step_seconds(one).value for one in of_steps))
    assert tag["flop.per_token"].planned.value == pytest.approx(flops(config).total / config.curriculum.tokens(40))
    seen = plan(config, [Document(40), Document(24)])["flop.visible"].planned.value
    each = {size: plan(alone(config, size), [Document(40), Document(24)]) for size in set(sizes(config, 40))}
    assert seen == sum(each[size]["flop.visible"].planned.value / 40 for size in sizes(config, 40))


def test_budgets_of_tokens_and_of_flop_end_a_run_of_growing_batches() -> None:
    tokens = made().curriculum.tokens(25)
    assert known_steps(made(budget={"tokens": tokens})) == 25 and known_steps(made(budget={"tokens": tokens + 1})) == 26
    flop = flops(made(budget={"steps": 25})).total
    assert known_steps(made(budget={"flop": flop})) == 25 and known_steps(made(budget={"flop": flop - 1})) == 24


def test_a_measured_budget_buys_the_steps_that_fit_into_it() -> None:
    config = made()
    seconds = [step_seconds(alone(config, size)).value for size in sizes(config, 40)]
    hours = sum(seconds[:30]) * 1.0001 / 3600
    assert plan(made(budget={"hours": hours}))["data.steps"].planned.value == 30


def test_the_largest_step_need_not_be_the_last_one() -> None:
    """34 samples are three passes of 12; the 16 of a smaller step are one pass."""
    config = made("optim.batch_warmup=[{size: 4, tokens: 4k}, {size: 16, tokens: 8k}]")
    assert micro_batch(config) == 12 and micro_batches(config) == 3 and micro_batch(config, 16) == 16
    every = {size: memory(alone(config, size)).total for size in (4, 16, 34)}
    assert every[largest_step(config).batch_size] == max(every.values()) == fit(config).needed.total
    tight = config.model_copy(update={"machine": config.machine.model_copy(update={"memory_bytes": every[16] * 0.9})})
    proposal = fit(tight).proposal
    assert proposal is not None
    changed = tight.model_copy(update={"engine": tight.engine.model_copy(update=proposal)})
    assert max(memory(alone(changed, size)).total for size in (4, 16, 34)) <= every[16] * 0.9 * 0.94


def test_a_calibration_has_no_warm_up() -> None:
    small = small_model(made(), 128, 2, 128, 8, 2048)
    assert small.optim.batch_warmup == () and flops(small).samples_per_step == 8


def test_a_ladder_trains_on_its_tokens_whatever_the_batches() -> None:
    words = ["ladder=cpu", "ladder.tokens=[100k]", "ladder.batch_size=null", "optim.batch_size=32"]
    words.append("ladder.tokens_per_parameter_between=null")
    runs = planned_runs([*words, "optim.batch_warmup=[{size: 4, tokens: 20k}]"])
    assert len(runs) > 3
    for run in runs:
        steps, curriculum = known_steps(run.config), run.config.curriculum
        assert curriculum.tokens(steps - 1) < 100_000 <= curriculum.tokens(steps)
