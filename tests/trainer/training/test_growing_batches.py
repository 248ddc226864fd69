"""A run whose batches grow makes one curve in every layout, goes on inside of its warm-up, and counts what it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.training.faults.test_runs import NAN, events, start
from tests.trainer.training.half_way import half_way, trained
from tests.trainer.training.optimizers.test_layouts import (
    LAYOUTS,
    STEPS,
    assert_same_curve,
    losses,
    tensors,
)
from trainer.trackers import read_events, read_metrics
from trainer.training.checkpoint import open_checkpoint

# Of 32 tokens a sample: two steps of 2 samples, three of 5 (the checkpoint of step 4 lies among them), then 12.
GROWING = [
    "optim.batch_warmup=[{size: 2, tokens: 100}, {size: 5, tokens: 400}]",
    "optim.weight_decay_schedule=[{shape: linear, to: 0.0}]",
    "optim.momentum_schedule=[{shape: linear, tokens: 500, start: 0.5}]",
    "optim.schedule=[{shape: warmup, tokens: 300}, {shape: constant}, {shape: linear, tokens: 700}]",
]
SIZES = [2, 2, 5, 5, 5, 12, 12, 12]


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    every = ["checkpoint.every_steps=4", "evaluation.every_steps=4", "optim.lr=0.01", "optim.clip=0.5"]
    return [*tiny, f"budget.steps={STEPS}", *every, *GROWING]


def test_goes_on_elsewhere_and_here(isoflop: Any, words: list[str]) -> None:
    """From step 4 on, in the middle of the steps of five samples, of which three ranks have two, two and one."""
    run = trained(isoflop, *words, "engine.dry_run=true")
    again, elsewhere = half_way(run, "again", after=4), half_way(run, "elsewhere", after=4)
    trained(isoflop, f"resume={elsewhere}", "engine.zero_stage=3", "launch.processes=3", "engine.micro_batch=2")
    assert_same_curve(elsewhere, run)
    trained(isoflop, f"resume={again}")
    assert losses(again) == losses(run)
    ours, theirs = tensors(run, "model"), tensors(again, "model")
    assert all((ours[name] == theirs[name]).all() for name in ours)

    _records_count_what_is_read(run)
    shown = isoflop("data", "show", str(run), "step=3", "--json")
    assert json.loads(shown.stdout)["reads"] == [9, 14]
    card = json.loads(isoflop("report", str(run), "--json").stdout)
    assert str(32 * sum(SIZES)) in json.dumps(card)


def _records_count_what_is_read(run: Path) -> None:
    records = [record for record in read_metrics(run) if record["kind"] == "step"]
    assert [record["scheduled"]["batch_size"] for record in records] == SIZES
    assert [record["samples"] for record in records] == [sum(SIZES[: n + 1]) for n in range(STEPS)]
    assert [record["tokens"] for record in records] == [32 * record["samples"] for record in records]
    per_token = {record["flop"] / record["tokens"] for record in records}
    assert max(per_token) == pytest.approx(min(per_token))
    assert [record["scheduled"]["weight_decay"] for record in records] == pytest.approx(
        [0.1 * (1 - (n + 1) / STEPS) for n in range(STEPS)]
    )
    assert [record["scheduled"]["momentum"] for record in records][-1] == 0.9
    held_out = [record["tokens"] for record in read_metrics(run) if record["kind"] == "evaluation"]
    assert held_out == [32 * sum(SIZES[:4]), 32 * sum(SIZES)]
    started = next(event for event in read_events(run) if event["name"] == "start")
    assert "8 steps of 2, then 5, then 12 x 32 tokens" in started["text"]


@pytest.mark.slow
def test_records_leave_out_a_batch_that_is_skipped(words: list[str], tmp_path: Path) -> None:
    """Batch 3, of 5 samples, is not trained on: the step after the third one takes batch 4."""
    averaged = ["anomalies.nonfinite=skip", "evaluation.every_steps=8", "optim.averages.ema.half_life=1k"]
    done = start(words, tmp_path, [NAN | {"step": 3}], *averaged)
    assert done.returncode == 0, done.stdout + done.stderr
    run, trained_on = tmp_path / "runs" / "faults" / "run", [2, 2, 5, 5, 12, 12, 12, 12]
    assert (
        "data show" in events(run, "nonfinite")[0]["text"] and events(run, "nonfinite")[0]["data"]["first_sample"] == 9
    )
    records = [record for record in read_metrics(run) if record["kind"] == "step"]
    assert [record["scheduled"]["batch_size"] for record in records] == trained_on
    assert [record["samples"] for record in records] == [sum(trained_on[: n + 1]) for n in range(STEPS)]
    assert [r["tokens"] for r in read_metrics(run) if r["kind"] == "evaluation"] == [32 * sum(trained_on)]
    manifest = open_checkpoint(run / "checkpoints" / f"step-{STEPS:08d}").manifest
    assert manifest["averages"]["ema"]["tokens"] == 32 * sum(trained_on)


@pytest.mark.slow
def test_one_curve(isoflop: Any, words: list[str]) -> None:
    whole: dict[str, Path] = {}
    for number, layout in enumerate(LAYOUTS):
        clip = layout[3]
        if clip not in whole:
            whole[clip] = trained(isoflop, *words, clip, f"run.id=whole-{len(whole)}")
        run = trained(isoflop, *words, *layout, f"run.id=layout-{number}")
        assert_same_curve(run, whole[clip])
        back = half_way(run, f"back-{number}", after=4)
        trained(
            isoflop, f"resume={back}", "engine.zero_stage=2", "launch.processes=2", "engine.offload_optimizer=false"
        )
        assert_same_curve(back, whole[clip])
