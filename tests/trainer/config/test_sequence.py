"""What ranks that share their sequences are not for is refused before any work: a line with key, value and what would
do."""

from __future__ import annotations

import pytest

from trainer.books.layout import micro_batch, micro_batches
from trainer.compose import compose
from trainer.config import Config
from trainer.config.division import data_ranks
from trainer.utils.errors import UserError

SHARED = ["engine.sequence_parallel=2", "launch.processes=4"]


def config(*words: str) -> Config:
    return compose([*SHARED, "data.sequence_length=64", "optim.batch_size=12", *words])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["launch.processes=3"],
            "sequence_parallel: 2 does not divide launch.processes x nodes = 3; 1 would do",
        ),
        (
            ["launch.processes=1", "model.experts.count=4"],
            "sequence_parallel: 2 does not divide launch.processes x nodes = 1",
        ),
        (["data.sequence_length=65"], "data.sequence_length: 2 ranks (engine.sequence_parallel=2) do not divide 65"),
        (
            ["data.sequence_length=66", "engine.sequence_kind=ring"],
            "data.sequence_length: 4 chunks of 2 to a rank (engine.sequence_parallel=2) do not divide 66 tokens; 64 or",
        ),
        (
            ["engine.sequence_parallel=4", "model.heads=2", "model.kv_heads=2"],
            "engine.sequence_parallel: 4 does not divide model.heads 2, which ulysses exchanges; 2 would do",
        ),
        (
            ["engine.sequence_parallel=4", "model.heads=6", "model.kv_heads=6", "model.width=48"],
            "4 does not divide model.heads 6, which ulysses exchanges; 2 would do",  # 3 is no part of 4 ranks
        ),
        (["engine.sequence_kind=ring", "kernels.attention=sdpa"], "kernels.attention: sdpa tells no log-sum-exp"),
        (["engine.sequence_kind=ring", "model.attention_dropout=0.1"], "ring has model.attention_dropout in"),
        (["engine.sequence_kind=ring", "model.position=alibi"], "ring has model.position=alibi in"),
        (["engine.compile=true"], "engine.compile: not with engine.sequence_parallel=2; leave engine.compile=auto"),
        (["debug.noise_every=2"], "debug.noise_every: the gradients of ranks that share sequences are no samples"),
        (["model=bert-mini", "objective=bert"], "engine.sequence_parallel: not with a question about pairs"),
        (["model=electra-mini"], "engine.sequence_parallel: not with a generator"),
        (["model=xlnet-base"], "engine.sequence_parallel: not with model.position=relative"),
        (["model.experts.count=4", "model.experts.capacity=1"], "sequence_parallel: not with a capacity of experts"),
        (["optim.batch_size=1"], "launch.processes: 4 / engine.sequence_parallel 2 = 2 ranks cannot share"),
    ],
)
def test_refused(words: list[str], line: str) -> None:
    with pytest.raises(UserError) as told:
        config(*words)
    assert line in str(told.value) and str(told.value).count("\n") == 0


def test_ranks_that_read_other_samples_share_the_batch() -> None:
    found = config()
    assert data_ranks(found) == 2
    assert micro_batch(found) * micro_batches(found) == 6
    longer = config("engine.sequence_kind=ring", "kernels.attention=reference", "model.attention_dropout=0.1")
    assert longer.science_hash() == config("model.attention_dropout=0.1").science_hash()
