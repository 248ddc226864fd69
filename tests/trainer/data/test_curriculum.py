"""Stages of several sequence lengths: what a step reads, and what it adds up to."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from tests.trainer.data.loading import fixed
from trainer.books import flops, plan
from trainer.books.clock import step_seconds
from trainer.books.run_length import run_steps, run_tokens
from trainer.config import Config, Curriculum, DataConfig
from trainer.data import Samples, StepLoader, describe, tokens_by_source
from trainer.data.show import show

STAGES = [
    {"tokens": 4 * 16 * 5, "sequence_length": 16},
    {"tokens": 900, "sequence_length": 64},  # 3.5 steps: four
    {"tokens": 4 * 16 * 3, "sequence_length": 16},
    {"tokens": 1},  # data.sequence_length, to the end
]
LENGTHS = [16] * 5 + [64] * 4 + [16] * 3  # then 32


def staged(config: Config, **groups) -> Config:
    given = config.model_dump()
    given["data"] |= {"stages": STAGES, **groups.pop("data", {})}
    return Config.model_validate({**given, "optim": {"batch_size": 4}, "budget": {"steps": 20}, **groups})


def length_of(step: int) -> int:
    return LENGTHS[step] if step < len(LENGTHS) else 32


def test_sums_over_steps_against_adding_up():
    curriculum = Curriculum(DataConfig(sequence_length=32, stages=tuple(staged(Config()).data.stages)), 4)
    tokens = [0]
    for step in range(40):
        stage = curriculum.stage(step)
        assert stage.sequence_length == length_of(step) and stage.first <= step < stage.last
        assert curriculum.tokens(step) == tokens[-1]
        assert curriculum.steps_by_shape(0, step) == Counter((length_of(k), 4) for k in range(step))
        tokens.append(tokens[-1] + 4 * length_of(step))
    for wanted in range(1, tokens[-1] + 1, 7):
        assert curriculum.steps(wanted) == next(k for k, sum in enumerate(tokens) if sum >= wanted)
    assert curriculum.sequence_lengths == (16, 64, 32)


def test_a_run_without_stages_has_one():
    config = Config.model_validate({"budget": {"tokens": 100_000}})
    assert len(config.curriculum.stages) == 1 and config.curriculum.tokens(7) == 7 * 32 * 256
    assert run_steps(config) == -(-100_000 // (32 * 256)) and run_tokens(config) == run_steps(config) * 32 * 256
    assert config.at_length(256) is config


def test_batches_have_the_length_of_their_stage(config, prepared):
    samples = Samples(prepared, staged(config), "train")
    for rank, world in ((0, 1), (2, 3), (7, 8)):
        loader = StepLoader(samples, **fixed(4, 1), rank=rank, world_size=world)
        for step in range(20):
            for micro in loader.step(step):
                assert {array.shape for array in micro.values()} == {(1, length_of(step))}


def test_a_stage_reads_what_a_run_of_its_length_reads(config, prepared):
    """The first stage, and the third, which goes on where the first one stopped."""
    drawn = Samples(prepared, staged(config), "train")
    alone = Samples(prepared, staged(config, data={"stages": (), "sequence_length": 16}), "train")
    for name, array in drawn.batch(0, 20).items():
        assert np.array_equal(array, alone.batch(0, 20)[name])
    for name, array in drawn.batch(36, 48).items():
        assert np.array_equal(array, alone.batch(20, 32)[name])


def test_stages_of_one_length_change_nothing(config, prepared):
    same = [{"tokens": 1000}, {"tokens": 300}, {"tokens": 1}]
    cut, whole = (
        StepLoader(Samples(prepared, c, "train"), **fixed(4, 4), rank=0, world_size=1)
        for c in (staged(config, data={"stages": same}), staged(config, data={"stages": ()}))
    )
    for step in range(30):
        for one, other in zip(cut.step(step), whole.step(step), strict=True):
            assert all(np.array_equal(one[name], other[name]) for name in one)


def test_every_stage_reads_each_window_once_an_epoch(config, prepared):
    long = [{"tokens": 10**6, "sequence_length": 16}, {"tokens": 10**6, "sequence_length": 64}]
    samples = Samples(prepared, staged(config, data={"stages": long}), "train")
    for sample_range in samples.sample_ranges:
        n = sample_range.chunker.n
        places = samples.window(sample_range.first, sample_range.first + 2 * n).place
        assert np.array_equal(np.sort(places[:n]), np.arange(n))
        assert not np.array_equal(places[:n], places[n:])


def test_a_batch_is_of_one_stage(config, prepared):
    with pytest.raises(ValueError, match="several stages"):
        Samples(prepared, staged(config), "train").batch(19, 21)


def test_held_out_text_is_read_at_one_length(config, prepared):
    one, other = (
        Samples(prepared, c, "held_out").batch(0, 5) for c in (staged(config), staged(config, data={"stages": ()}))
    )
    assert all(np.array_equal(one[name], other[name]) for name in other)


def test_a_step_can_be_shown(config, prepared):
    shown = show(staged(config), 6, samples=1)
    assert shown["reads"] == [24, 28] and shown["sequence_length"] == 64 and shown["stage"] == 1


def test_the_books_add_up_the_stages():
    config = staged(
        Config(), data={"sequence_length": 32}, machine={"name": "x", "peak_flops": {"bf16": 1e12}, "memory_bytes": 1e9}
    )
    assert config.max_length == 64
    each = [flops(config.at_length(length_of(step))).per_step for step in range(20)]
    assert len(set(each)) == 3 and flops(config).total == sum(each)
    tag = plan(config)
    assert tag["data.tokens"].planned.value == run_tokens(config) == sum(4 * length_of(step) for step in range(20))
    seconds = sum(step_seconds(config.at_length(length_of(step))).value for step in range(20))
    assert tag["time.wall"].planned.value == pytest.approx(seconds)
    assert tag["memory.rank"].planned.value == plan(config.at_length(64))["memory.rank"].planned.value


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"data": {"stages": [{"tokens": 255, "sequence_length": 64}, {}]}},
            r"stages\[0\]\.tokens: 255 are less than ",
        ),
        (
            {"data": {"stages": [{"sequence_length": 64}, {}]}},
            r"stages\[0\]\.tokens: state how long it is; only the last stage holds to the end",
        ),
        ({"data": {"stages": [{"sequence_length": 4}]}}, "greater than or equal to 8"),
        ({"data": {"stages": [{"weights": {"a": 1.0}}]}}, "only data=mixture reads sources"),
        (
            {"model": {"position": "learned", "max_length": 32}},
            r"data\.stages\[1\]\.sequence_length: 64 is longer than model\.max_length 32",
        ),
    ],
)
def test_stages_that_cannot_be(groups, message):
    with pytest.raises(ValidationError, match=message):
        staged(Config(), **groups)


def test_what_was_read_is_a_function_of_the_step(config, prepared):
    drawn = Samples(prepared, staged(config), "train")
    for step in (1, 5, 7, 9, 12, 19):
        read = drawn.usage(4 * step)
        assert [part.stage for part in read] == list(range(staged(config).curriculum.stage(step - 1).number + 1))
        assert sum(part.samples for part in read) == 4 * step
        assert tokens_by_source(read) == {"text": staged(config).curriculum.tokens(step)}
    n = drawn.sample_range(0).chunker.n
    assert read[0].epochs == 20 / n and read[2].epochs == 12 / n
    assert describe(read).startswith("read so far: text ")
