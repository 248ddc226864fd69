"""Experts: one curve in every layout, one bias a step, counts that are exact, and runs that go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.training.half_way import half_way, trained
from trainer.config.experts import ExpertsConfig
from trainer.models.experts import Experts
from trainer.trackers import read_metrics
from trainer.training.engine.expert_loads import ExpertLoads

STEPS = 6
FAMILIES = {
    "loss": ["model.experts.capacity=0.9", "model.experts.per_token=1", "model.experts.every=2"],
    "bias": ["model.experts.balance=both", "model.experts.score=sigmoid", "model.experts.shared=1"],
    "batch": ["model.experts.group=batch", "model.experts.renormalise=true"],
    "groups of two": ["model.experts.group=2", "model.experts.capacity=1.0"],
    "encoder-decoder": [
        *("model=t5-mini", "model.heads=4", "objective=span_corruption", "model.experts.capacity=1.25"),
        *("model.dropout=0.1",),
    ],
}
# Every pair of values of any two of: stage, ranks, micro-batch, recomputation; shares are whole groups of two.
LAYOUTS = [
    [f"engine.zero_stage={stage}", f"launch.processes={ranks}", f"engine.micro_batch={rows}", *more]
    for stage, ranks, rows, *more in (
        (0, 1, 2, "engine.activation_checkpointing=true"),
        (0, 2, 6),
        (0, 3, 4),
        (1, 1, 4),
        (1, 2, 2, "engine.activation_checkpointing=true"),
        (1, 3, 2),
        (2, 1, 6, "engine.activation_checkpointing=true"),
        (2, 2, 4),
        (2, 3, 2),
        (3, 1, 2),
        (3, 2, 6, "engine.activation_checkpointing=true"),
        (3, 3, 4, "engine.activation_checkpointing=true"),
        # and ranks that share experts; more of these in test_expert_ranks.py
        (1, 2, 2, "engine.expert_parallel=2"),
        (3, 2, 4, "engine.expert_parallel=2", "engine.activation_checkpointing=true"),
    )
]


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    steps = [f"budget.steps={STEPS}", "checkpoint.every_steps=3", f"evaluation.every_steps={STEPS}", "optim.lr=0.01"]
    experts = ["model.experts.count=4", "model.ffn_width=32", "model.heads=2"]
    return [*tiny, *steps, *experts]


def records(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run) if record["kind"] == "step"]


def weights(run: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}


def assert_same(ours: Path, theirs: Path) -> None:
    """Losses, norms of the gradients and what routers did. After the first update rounding may have a token change its
    expert (`scripts/results/expert_choices` counts them), and Adam's first steps blow it up in the norms."""
    assert len(records(ours)) == len(records(theirs)) == STEPS
    for number, (one, other) in enumerate(zip(records(ours), records(theirs), strict=True)):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5), number
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4 if number else 1e-5), number
        assert one["experts"] == pytest.approx(other["experts"], rel=1e-5, abs=2e-3 * (number > 0)), number


def test_elsewhere_and_resumed(isoflop: Any, words: list[str]) -> None:
    words = [*words, *FAMILIES["bias"], "model.experts.capacity=1.0", "model.experts.bias_rate=0.01"]
    run = trained(isoflop, *words, "run.id=whole")
    elsewhere = trained(isoflop, *words, *LAYOUTS[10], "run.id=elsewhere")
    assert_same(elsewhere, run)
    again = half_way(run, "again", after=3)
    trained(isoflop, f"resume={again}")
    ours, theirs = weights(run), weights(again)
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
    for step in (3, STEPS):  # so many moves of one rate each, or none, on every expert
        (bias, *_) = [one for name, one in weights(run, step).items() if name.endswith("0.feed_forward.balance_bias")]
        moves = (bias / 0.01).double()
        assert moves.abs().max() <= step and torch.allclose(moves, moves.round(), atol=1e-5) and bias.abs().sum() > 0
        there = weights(elsewhere, step)["blocks.0.feed_forward.balance_bias"]
        assert (there - bias).abs().max() <= 0.0201  # a token that changes its expert may turn one move around
    told = records(run)[-1]["experts"]
    assert 0 < told["dropped_share"] < 1 and 0.5 < told["load_entropy_lowest"] <= told["load_entropy"] < 1
    assert told["balance_loss"] == pytest.approx(2 * 0.01, rel=0.1)  # two layers, nearly even


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_one_curve(isoflop: Any, words: list[str], family: str) -> None:
    words = [*words, *FAMILIES[family]]
    run = trained(isoflop, *words, "run.id=whole")
    for number, layout in enumerate(LAYOUTS):
        assert_same(trained(isoflop, *words, *layout, f"run.id=layout-{number}"), run)
    back = half_way(run, "back", after=3)
    trained(isoflop, f"resume={back}", "engine.zero_stage=2", "launch.processes=2")
    assert_same(back, run)


class Alone:
    """The world of one rank."""

    def sum(self, *values: float) -> list[float]:
        return list(values)


def test_a_bias_moves_against_its_load() -> None:
    """By one rate up below the mean load and down above it (DeepSeek-V3, section 2.1.2)."""
    layer = Experts.__new__(Experts)
    torch.nn.Module.__init__(layer)
    layer.config, layer.up = ExpertsConfig(count=4, balance="bias", bias_rate=0.5), torch.nn.Parameter(torch.ones(1))
    layer.register_buffer("balance_bias", torch.tensor([1.0, 1.0, 0.0, 0.0]))
    loads = ExpertLoads(torch.nn.Sequential(layer), Alone())  # type: ignore[arg-type]
    for part in ([[3, 0, 2, 1, 1]], [[1, 0, 2, 3, 0]]):
        loads.take({"expert_loads": torch.tensor(part)})
    loads.finish()
    loads.move_biases()
    assert layer.balance_bias.tolist() == [0.5, 1.5, -0.5, -0.5]
    told = loads.record({"balance_loss": 6.0, "router_z_loss": 3.0}, 3.0)
    shares = np.array([1 / 3, 1 / 3, 1 / 3])
    assert told["load_entropy"] == pytest.approx(-(shares * np.log(shares)).sum() / np.log(4))
    assert told["dropped_share"] == 1 / 12 and told["dead_experts"] == 1 and told["balance_loss"] == 2.0
