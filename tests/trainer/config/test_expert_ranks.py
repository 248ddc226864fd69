"""What `engine.expert_parallel` takes, and the one line for each thing that it does not."""

from __future__ import annotations

import pytest

from trainer.compose import compose
from trainer.utils.errors import UserError
from trainer.worker import as_found

EIGHT = ["model.experts.count=8", "optim.batch_size=12", "launch.processes=4"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["engine.expert_parallel=3"], "4 ranks are no whole number of groups of 3; engine.expert_parallel=2 would do"),
        (
            ["launch.processes=3", "engine.expert_parallel=3"],
            "3 ranks cannot share 8 experts evenly (model.experts.count); engine.expert_parallel=1 would do",
        ),
        (
            ["model.experts.count=6", "engine.expert_parallel=4"],
            "4 ranks cannot share 6 experts evenly (model.experts.count); engine.expert_parallel=2 would do",
        ),
        (["launch.processes=1", "engine.expert_parallel=2"], "1 rank is no whole number of groups of 2"),
        (
            ["launch=slurm", "launch.nodes=2", "launch.processes=3", "engine.expert_parallel=4"],
            "6 ranks are no whole number of groups of 4; engine.expert_parallel=1 would do",  # pairs would lie on two
        ),
        (["model.experts.count=0", "engine.expert_parallel=2"], "where model.experts.count=0 has none"),
        (["engine.expert_parallel=0"], "engine.expert_parallel: 0 given, greater than or equal to 1 [ranks] wanted"),
        (
            ["engine.expert_parallel=2", "engine.zero_stage=3", "engine.partition=node"],
            "engine.partition: node is not to be had with engine.expert_parallel",
        ),
        (["engine.expert_parallel=2", "debug.noise_every=2"], "debug.noise_every: with engine.expert_parallel"),
        (
            ["engine.expert_parallel=2", "+engine.deepspeed.zero_optimization.reduce_scatter=false"],
            "zero_optimization.reduce_scatter: False adds up each expert's gradient with those of others",
        ),
    ],
)
def test_one_line(words: list[str], line: str) -> None:
    with pytest.raises(UserError) as told:
        compose([*EIGHT, *words])
    assert line in str(told.value) and len(str(told.value).splitlines()) <= 2


def test_fewer_ranks_share_as_far_as_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose([*EIGHT, "engine.expert_parallel=4"])
    for ranks, sharing in ((2, 2), (3, 1), (4, 4)):
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        assert as_found(config).engine.expert_parallel == sharing
