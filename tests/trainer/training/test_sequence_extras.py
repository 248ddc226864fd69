"""What else a run does beside its steps, where ranks share their sequences: evaluations in the loop, growing batches,
lengths in stages, a dry run, measurements. All of it tells what it tells on one rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.training.half_way import trained
from tests.trainer.training.test_sequence_layouts import RING, ULYSSES, curve
from trainer.trackers import read_events, read_metrics
from trainer.trackers.scores import flat

MORE = ["optim.batch_warmup=[{size: 4, tokens: 256}]", "data.stages=[{sequence_length: 16, tokens: 640}, {}]"]
MORE += ["evaluation.tasks=[copy]", "evaluation.tasks_limit=6", "evaluation.every_steps=4", "evaluation.samples=8"]
MORE += ["engine.dry_run=true", "debug.updates_every=2", "debug.first_nonfinite=true", "budget.steps=8"]


def told(run: Path) -> dict[str, float]:
    """What was found beside the losses: tasks' figures and the sizes of updates, by step."""
    found = {}
    for record in read_metrics(run):
        for kind in ("scores", "updates"):
            found |= {f"{record['step']} {name}": one for name, one in flat(record.get(kind) or {}).items()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("layout", [ULYSSES, RING], ids=["ulysses", "ring"])
def test_all_that_a_run_does_beside_its_steps(isoflop: Any, tiny: list[str], layout: list[str]) -> None:
    words = [*tiny, "model=llama-mini", "model.heads=4", *MORE]
    one = trained(isoflop, *words, "run.id=one")
    assert len({record["samples"] for record in read_metrics(one) if record["kind"] == "step"}) > 1
    assert any("tasks/copy@" in name for name in told(one)) and any("/gradient" in name for name in told(one))
    two = trained(isoflop, *words, *layout, "run.id=two")
    assert curve(two) == pytest.approx(curve(one), rel=1e-5)
    assert told(two) == pytest.approx(told(one), rel=1e-4)
    assert "dry_run" in [event["name"] for event in read_events(two)]
