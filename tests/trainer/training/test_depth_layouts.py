"""A model that CompleteP makes deeper has one curve at ZeRO 0 and 3: rates and epsilons are of the groups."""

from __future__ import annotations

from typing import Any

import pytest

from tests.trainer.training.half_way import half_way, trained
from trainer.trackers import read_metrics

STEPS = 4


def test_goes_on_elsewhere(isoflop: Any, tiny: list[str]) -> None:
    words = [*tiny, "model.depth=3", "model.mup_base_depth=1", "model.mup_base_width=16", "model.mup_depth_power=0.75"]
    words += [f"budget.steps={STEPS}", "checkpoint.every_steps=2", "optim.epsilon=1e-4", "optim.lr=0.01"]

    def losses(run: Any) -> list[float]:
        return [record["loss"] for record in read_metrics(run) if record["kind"] == "step"]

    run = trained(isoflop, *words, "engine.zero_stage=0", "run.id=whole")
    assert len(losses(run)) == STEPS
    elsewhere = half_way(run, "elsewhere", after=STEPS // 2)
    trained(isoflop, f"resume={elsewhere}", "engine.zero_stage=3", "launch.processes=2")
    assert losses(elsewhere) == pytest.approx(losses(run), rel=1e-5)
