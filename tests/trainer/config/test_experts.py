"""What `model.experts` takes, and the one line for each thing that it does not."""

from __future__ import annotations

import pytest
import yaml

from trainer.compose import compose
from trainer.config import TaskConfig
from trainer.utils.errors import UserError

EIGHT = ["model.experts.count=8", "optim.batch_size=12"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model.experts.per_token=9"], "experts.per_token: a token cannot read 9 of 8 experts; at most 8"),
        (["model.experts.count=0", "model.experts.per_token=1"], "experts.per_token: model.experts.count=0 has no"),
        (["model.experts.capacity=0.0001"], "experts.capacity: 0.0001 leaves no place"),
        (["model.experts.capacity=1", "model.experts.group=batch"], "experts.capacity: needs a group that lies within"),
        (["model.experts.group=5"], "experts.group: 5 sequences do not divide optim.batch_size 12; "),
        (
            ["model.experts.group=4", "engine.micro_batch=6"],
            "do not divide engine.micro_batch 6; engine.micro_batch=4",
        ),
        (
            ["model.experts.group=6", "launch.processes=4"],
            "4 ranks' shares of optim.batch_size 12; optim.batch_size=24",
        ),
        (
            ["model.experts.group=4", "optim.batch_warmup=[{size: 6, tokens: 6000}]"],
            "4 sequences do not divide a batch of 6 (optim.batch_warmup); 8 would do",
        ),
        (["model.experts.group=sequences"], "experts.group: 'sequences' given, sequence, batch, or a number"),
        (["model.experts.groups=3", "model.experts.groups_per_token=1"], "groups: 3 does not divide 8 experts; 2 does"),
        (["model.experts.groups=4", "model.experts.groups_per_token=5"], "cannot read 5 of 4 groups"),
        (["model.experts.groups=4"], "experts.groups_per_token: 0 of 4 groups; give both, or neither"),
        (
            ["model.experts.groups=4", "model.experts.groups_per_token=1", "model.experts.per_token=3"],
            "experts.per_token: 1 groups hold 2 experts, 3 wanted",
        ),
        (["model.experts.shared_gate=true"], "experts.shared_gate: needs model.experts.shared of 1 or more"),
        (["model.experts.dense_layers=99"], "experts.every: no layer of"),
        (["model.shared_layers=true"], "experts.count: not with model.shared_layers; one block"),
        (
            ["model.mup_base_width=64"],
            "experts.count: not with model.mup_base_width; muP is not worked out",
        ),
        (
            ["model.experts.balance=bais"],
            "experts.balance: 'bais' given, 'loss', 'bias', 'both' or 'none' wanted (did you mean 'bias'?)",
        ),
        (["model.experts.cuont=8"], "model.experts.cuont: no such key (did you mean 'model.experts.count'?)"),
        (["engine.compile=true"], "engine.compile: not with model.experts; "),
    ],
)
def test_one_line(words: list[str], line: str) -> None:
    with pytest.raises(UserError) as told:
        compose([*EIGHT, *words])
    assert line in str(told.value) and str(told.value).count("\n") == 0


def test_a_dense_model_keeps_its_hash() -> None:
    config = compose([])
    assert "experts" not in yaml.safe_load(config.to_yaml())["model"]
    assert compose(["model.experts.count=8"]).science_hash() != config.science_hash()


def test_which_layers() -> None:
    def layers(**keys: int) -> list[int]:
        experts = compose(
            [f"model.experts.{name}={value}" for name, value in {"count": 4, **keys}.items()]
        ).model.experts
        return [layer for layer in range(6) if experts.at(layer)]

    assert layers() == [0, 1, 2, 3, 4, 5]
    assert layers(every=2) == [1, 3, 5]  # Switch
    assert layers(dense_layers=1) == [1, 2, 3, 4, 5]  # DeepSeek-MoE


def test_a_task_without_a_loss_of_loads_does_not_count_them_first() -> None:
    config = compose([*EIGHT, "model.experts.group=batch"])
    keys = {"kind": "preference", "source": "continuations", "text": ["prompt"], "answer": ["chosen", "rejected"]}
    tuned = config.model_copy(update={"task": TaskConfig.model_validate({"name": "a", **keys})})
    assert config.routes_twice and not tuned.routes_twice
