"""Every optimizer makes one curve at every ZeRO stage and on any number of ranks, and goes on from any other layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.training.half_way import half_way, trained
from tests.trainer.training.layout_probe import trained_together
from trainer.trackers import read_metrics

NAMES = ["adafactor", "lamb", "lion", "muon", "schedule_free", "sgd"]
OWN = {"schedule_free": ["optim.schedule=constant"]}  # keys that an optimizer needs
STEPS = 8
# Every pair of values of any two of: stage, ranks, micro-batch, offload, clipping.
LAYOUTS = [
    ["engine.zero_stage=0", "launch.processes=2", "engine.micro_batch=6", "optim.clip=0.1"],
    ["engine.zero_stage=0", "launch.processes=3", "engine.micro_batch=2", "optim.clip=null"],
    [
        "engine.zero_stage=1",
        "launch.processes=1",
        "engine.micro_batch=2",
        "optim.clip=0.1",
        "engine.offload_optimizer=true",
    ],
    ["engine.zero_stage=1", "launch.processes=2", "engine.micro_batch=3", "optim.clip=null"],
    ["engine.zero_stage=1", "launch.processes=3", "engine.micro_batch=4", "optim.clip=0.1"],
    ["engine.zero_stage=2", "launch.processes=1", "engine.micro_batch=4", "optim.clip=null"],
    ["engine.zero_stage=2", "launch.processes=2", "engine.micro_batch=2", "optim.clip=0.1"],
    [
        "engine.zero_stage=2",
        "launch.processes=3",
        "engine.micro_batch=3",
        "optim.clip=null",
        "engine.offload_optimizer=true",
    ],
    ["engine.zero_stage=3", "launch.processes=1", "engine.micro_batch=3", "optim.clip=0.1"],
    [
        "engine.zero_stage=3",
        "launch.processes=2",
        "engine.micro_batch=4",
        "optim.clip=null",
        "engine.offload_optimizer=true",
    ],
    ["engine.zero_stage=3", "launch.processes=3", "engine.micro_batch=2", "optim.clip=0.1"],
]


@pytest.fixture(scope="module")
def words(tiny: list[str]) -> list[str]:
    return [*tiny, f"budget.steps={STEPS}", "checkpoint.every_steps=4", "evaluation.every_steps=8", "optim.lr=0.01"]


class WentOn(NamedTuple):
    """A run, and two that went on from its middle."""

    whole: Path
    elsewhere: Path
    again: Path


@pytest.fixture(scope="module")
def went_on(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, WentOn]:
    """Of every optimizer, in processes that imported once; by commands of their own: test_one_curve."""
    folder = tmp_path_factory.mktemp("optimizers")
    place = [f"run.root={folder}", "run.experiment=optimizers", "checkpoint.asynchronous=false"]
    asked = [[*words, *place, f"run.id={name}", f"optim.name={name}", *OWN.get(name, [])] for name in NAMES]
    whole = trained_together(folder, asked)
    elsewhere, again = (
        [half_way(run, f"{run.name}-{name}", after=STEPS // 2) for run in whole] for name in ("elsewhere", "again")
    )
    asked = [[f"resume={run}", "engine.zero_stage=3", "launch.processes=2"] for run in elsewhere]
    trained_together(folder, [*asked, *([f"resume={run}"] for run in again)])
    return {name: WentOn(*runs) for name, *runs in zip(NAMES, whole, elsewhere, again, strict=True)}


def losses(run: Path) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in read_metrics(run) if record["kind"] == "step"}


def tensors(run: Path, kind: str) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{STEPS:08d}"
    return {name: tensor for file in folder.glob(f"{kind}*") for name, tensor in load_file(file).items()}


def assert_same_curve(ours: Path, theirs: Path) -> None:
    assert losses(ours).keys() == losses(theirs).keys() == set(range(1, STEPS + 1))
    assert losses(ours) == pytest.approx(losses(theirs), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_elsewhere_and_here(went_on: dict[str, WentOn], name: str) -> None:
    run, elsewhere, again = went_on[name]
    assert_same_curve(elsewhere, run)
    assert losses(again) == losses(run)
    for kind in ("model", "moments"):
        ours, theirs = tensors(run, kind), tensors(again, kind)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_curve(isoflop: Any, words: list[str], name: str) -> None:
    words, whole = [*words, *OWN.get(name, [])], {}
    for number, layout in enumerate(LAYOUTS):
        clip = layout[3]
        if clip not in whole:
            whole[clip] = trained(isoflop, *words, f"optim.name={name}", clip, f"run.id=whole-{len(whole)}")
        run = trained(isoflop, *words, f"optim.name={name}", *layout, f"run.id=layout-{number}")
        assert_same_curve(run, whole[clip])
        back = half_way(run, f"back-{number}", after=STEPS // 2)
        trained(
            isoflop, f"resume={back}", "engine.zero_stage=2", "launch.processes=2", "engine.offload_optimizer=false"
        )
        assert_same_curve(back, whole[clip])
