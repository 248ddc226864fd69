"""With dropout, too, a run makes one curve in every layout, and goes on from any other; evaluation is without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.trainer.training.half_way import half_way, trained
from trainer.trackers import read_metrics

STEPS = 6
DROPOUT = ["model.dropout=0.1", "model.attention_dropout=0.1"]
FAMILIES = {
    "decoder": ["model=gpt-mini", "model.heads=4"],
    "bert": ["model=bert-mini", "model.heads=4", "objective=bert"],
    "t5": ["model=t5-mini", "model.heads=4", "objective=span_corruption"],
}
# Every pair of values of any two of: stage, ranks, micro-batch, recomputation.
LAYOUTS = [
    [f"engine.zero_stage={stage}", f"launch.processes={ranks}", f"engine.micro_batch={rows}", *more]
    for stage, ranks, rows, *more in (
        (0, 1, 1),
        (0, 2, 4, "engine.activation_checkpointing=true"),
        (0, 3, 2, "engine.activation_checkpointing=selective"),
        (1, 1, 2, "engine.activation_checkpointing=true", "engine.compile=true"),
        (1, 2, 1, "engine.activation_checkpointing=2"),
        (1, 3, 4),
        (2, 1, 4),
        (2, 2, 2),
        (2, 3, 1, "engine.activation_checkpointing=true"),
        (3, 2, 4, "engine.activation_checkpointing=true"),
        (3, 3, 1, "engine.activation_checkpointing=selective"),
        (3, 1, 2),
    )
]
BACKENDS = [["kernels.dropout=reference"], ["kernels.dropout=torch", "kernels.attention=reference"]]


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    steps = [f"budget.steps={STEPS}", "checkpoint.every_steps=3", f"evaluation.every_steps={STEPS}", "optim.lr=0.01"]
    return [*tiny, *DROPOUT, *steps]


def curve(run: Path, kind: str = "step") -> dict[int, float]:
    return {record["step"]: record["loss"] for record in read_metrics(run) if record["kind"] == kind}


def weights(run: Path) -> dict[str, Any]:
    folder = run / "checkpoints" / f"step-{STEPS:08d}"
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_same_curve(ours: Path, theirs: Path) -> None:
    for kind in ("step", "evaluation"):
        assert curve(ours, kind).keys() == curve(theirs, kind).keys()
        assert curve(ours, kind) == pytest.approx(curve(theirs, kind), rel=1e-5)


def test_elsewhere_and_resumed(isoflop: Any, words: list[str]) -> None:
    run = trained(isoflop, *words, *FAMILIES["bert"], "run.id=whole")
    assert set(curve(run)) == set(range(1, STEPS + 1))
    again = half_way(run, "again", after=STEPS // 2)
    elsewhere = trained(isoflop, *words, *FAMILIES["bert"], *LAYOUTS[9], "run.id=elsewhere")
    assert_same_curve(elsewhere, run)
    trained(isoflop, f"resume={again}")
    assert curve(again) == curve(run)
    ours, theirs = weights(run), weights(again)
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_one_curve(isoflop: Any, words: list[str], family: str) -> None:
    run = trained(isoflop, *words, *FAMILIES[family], "run.id=whole")
    without = trained(isoflop, *words, *FAMILIES[family], "model.dropout=0", "model.attention_dropout=0", "run.id=none")
    assert curve(run)[1] != curve(without)[1]
    for number, layout in enumerate([*LAYOUTS, *BACKENDS]):
        other = trained(isoflop, *words, *FAMILIES[family], *layout, f"run.id=layout-{number}")
        assert_same_curve(other, run)
    back = half_way(run, "back", after=STEPS // 2)
    trained(isoflop, f"resume={back}", "engine.zero_stage=2", "launch.processes=2")
    assert_same_curve(back, run)
