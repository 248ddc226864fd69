"""Which samples a step reads where batches grow: against reading step by step, and what cannot be."""

from __future__ import annotations

import random
from collections import Counter
from itertools import accumulate, pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from trainer.config import Config, StepShape
from trainer.config.batch_warmup import BatchStageConfig, levels


def config_of(warmup: list[dict[str, Any]], batch_size: int, stages: list[dict[str, Any]] | None = None) -> Config:
    data = {"sequence_length": 32, "stages": stages or []}
    optim = {"batch_size": batch_size, "batch_warmup": warmup}
    return Config.model_validate({"data": data, "optim": optim, "budget": {"steps": 10**6}})


def read_step_by_step(config: Config, steps: int) -> list[StepShape]:
    """Shapes of the steps, by counting down the tokens that are left of a size and of a stage."""
    sizes = [(size, tokens) for size, tokens in levels(config.optim.batch_warmup, config.optim.batch_size)]
    stages = [(stage.sequence_length or 32, stage.tokens) for stage in config.data.stages[:-1]]
    last = config.data.stages[-1].sequence_length if config.data.stages else None
    sizes.append((config.optim.batch_size, 10**15))
    stages.append((last or 32, 10**15))
    shapes = []
    for _ in range(steps):
        (size, of_size), (length, of_stage) = sizes[0], stages[0]
        shapes.append(StepShape(length, size))
        for left, what, first in ((sizes, size, of_size), (stages, length, of_stage)):
            left[0] = (what, first - size * length)
            if left[0][1] <= 0:
                left.pop(0)
    return shapes


def drawn(chance: random.Random) -> Config:
    sizes = sorted(chance.sample(range(1, 40), chance.randint(2, 5)))
    warmup: list[dict[str, Any]] = []
    for size, following in pairwise(sizes):
        stage = {"size": size, "tokens": 64 * 40 * chance.randint(1, 9) * 8}
        rises = chance.random() < 0.4 and following - size > 2
        warmup.append(stage | ({"by": chance.randint(1, following - size - 1)} if rises else {}))
    lengths = chance.sample([16, 32, 64], chance.randint(0, 3))
    stages = [{"tokens": chance.randint(64 * 40, 10**5), "sequence_length": length} for length in lengths]
    try:
        return config_of(warmup, sizes[-1], stages)
    except ValidationError:  # a part of a rise that is shorter than a step
        return drawn(chance)


@pytest.mark.parametrize("seed", range(15))
def test_sums_over_steps_against_reading_step_by_step(seed: int) -> None:
    config = drawn(random.Random(seed))
    curriculum = config.curriculum
    shapes = read_step_by_step(config, 400)
    samples, tokens, begun = [0], [0], random.Random(seed).randint(0, 200)
    for step, shape in enumerate(shapes):
        assert curriculum.stretch(step).shape == shape
        assert curriculum.samples(step) == samples[-1] and curriculum.tokens(step) == tokens[-1]
        assert curriculum.batch(step) == (samples[-1], samples[-1] + shape.batch_size)
        assert curriculum.stage(step).sequence_length == shape.sequence_length
        samples.append(samples[-1] + shape.batch_size)
        tokens.append(tokens[-1] + shape.batch_size * shape.sequence_length)
    assert curriculum.steps_by_shape(begun, 350) == Counter(shapes[begun:350])
    for wanted in range(1, tokens[-1], tokens[-1] // 97):
        assert curriculum.steps(wanted) == next(k for k, sum in enumerate(tokens) if sum >= wanted)
    for wanted in range(1, samples[-1], samples[-1] // 97):
        assert curriculum.steps_of_samples(wanted) == next(k for k, sum in enumerate(samples) if sum >= wanted)
    costs = {shape: 1.0 + shape.batch_size * shape.sequence_length**1.5 for shape in curriculum.shapes}
    paid = list(accumulate(costs[shape] for shape in shapes))
    assert curriculum.steps_within(paid[332] + 0.5, costs) == 333 == sum(cost <= paid[332] + 0.5 for cost in paid)
    assert all(curriculum.first_step(shape) == shapes.index(shape) for shape in set(shapes))


def test_a_rise_is_in_equal_parts_of_its_tokens() -> None:
    """As in GPT-3: 12,000 tokens from 32 to 224 in steps of 64."""
    rise = [BatchStageConfig(size=32, by=64, tokens=12_000)]
    assert levels(rise, 256) == [(32, 3000), (96, 3000), (160, 3000), (224, 3000)]
    uneven = levels([BatchStageConfig(size=1, by=1, tokens=1000)], 8)
    assert [size for size, _ in uneven] == [1, 2, 3, 4, 5, 6, 7] and sum(tokens for _, tokens in uneven) == 1000


def test_without_stages_the_samples_are_those_of_a_run_without_warm_up_cut_otherwise() -> None:
    """Batches are neighbours: nothing is read twice, nothing is left out, and no stage moves."""
    warmed, plain = config_of([{"size": 3, "tokens": 999}, {"size": 5, "tokens": 2000}], 8), config_of([], 8)
    batches = [warmed.curriculum.batch(step) for step in range(60)]
    assert [sample for first, last in batches for sample in range(first, last)] == list(range(batches[-1][1]))
    assert [(one.first_sample, one.last_sample) for one in warmed.curriculum.stages] == [
        (one.first_sample, one.last_sample) for one in plain.curriculum.stages
    ]


def test_it_is_science_and_changes_no_other_hash() -> None:
    warmed, plain = config_of([{"size": 3, "tokens": 999}], 8), config_of([], 8)
    assert warmed.science_hash() != plain.science_hash()
    before = plain.model_dump()
    for key in ("batch_warmup", "weight_decay_schedule", "momentum_schedule"):
        del before["optim"][key]
    assert Config.model_validate(before).science_hash() == plain.science_hash()


@pytest.mark.parametrize(
    ("warmup", "said"),
    [
        ([{"size": 8, "tokens": 9999}], r"batch_warmup\[0\]\.size: 8 is not less than optim\.batch_size 8"),
        ([{"size": 64, "tokens": 9999}], r"batch_warmup\[0\]\.size: 64 is not less than optim\.batch_size 8"),
        ([{"size": 4, "tokens": 9999}, {"size": 4, "tokens": 9999}], r"\[0\]\.size: 4 is not less than the size after"),
        ([{"size": 4, "tokens": 9999}, {"size": 2, "tokens": 9999}], r"\[0\]\.size: 4 is not less than the size after"),
        ([{"size": 4}], r"batch_warmup\[0\]: state its tokens"),
        ([{"tokens": 4096}], r"batch_warmup\[0\]: state its size"),
        ([{"size": 4, "tokens": 100}], r"batches of 4: 100 are less than one step of 4 x 32 = 128 tokens"),
        ([{"size": 4, "by": 4, "tokens": 9999}], r"\[0\]\.by: 4 \+ 4 passes the next size, 8; leave it out"),
        ([{"size": 2, "by": 2, "tokens": 300}], r"batches of 2: 100 are |batches of 4: 100 are "),
        ([{"size": 0, "tokens": 9999}], "greater than or equal to 1"),
    ],
)
def test_batches_that_cannot_grow_so(warmup: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config_of(warmup, 8)
