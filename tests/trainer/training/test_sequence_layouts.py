"""Ranks that share their sequences make the curve of one rank, which has whole ones, and a run goes on between such
layouts, also where a rank is killed. Families, stages and what else goes with it: test_layouts.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.training.faults.test_chaos import survive
from tests.trainer.training.half_way import half_way, trained
from trainer.trackers import read_metrics

STEPS = 4
DECODER = ["model=llama-mini", "model.heads=4", "model.kv_heads=1"]
ULYSSES = ["launch.processes=2", "engine.sequence_parallel=2"]
RING = [*ULYSSES, "engine.sequence_kind=ring", "kernels.attention=reference"]
EXPERTS = ["launch.processes=2", "engine.expert_parallel=2"]
MIXTURE = ["model.experts.count=4", "model.ffn_width=32"]


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    steps = [f"budget.steps={STEPS}", "checkpoint.every_steps=2", f"evaluation.every_steps={STEPS}", "optim.lr=0.01"]
    dropout = ["model.dropout=0.1", "model.attention_dropout=0.1"]
    return [*tiny, *dropout, *steps, "optim.batch_size=6", "evaluation.samples=8"]


def curve(run: Path) -> dict[tuple[str, int], float]:
    return {(record["kind"], record["step"]): record["loss"] for record in read_metrics(run) if "loss" in record}


def facts(run: Path) -> list[tuple[int, ...]]:
    """Of every step what must not know of ranks."""
    names = ("step", "samples", "tokens", "targets", "flop")
    steps = [record for record in read_metrics(run) if record["kind"] == "step"]
    return [(*(record[name] for name in names), round(record["padding"], 9)) for record in steps]


def assert_same(ours: Path, theirs: Path) -> None:
    assert curve(ours).keys() == curve(theirs).keys()
    assert curve(ours) == pytest.approx(curve(theirs), rel=1e-5)
    assert facts(ours) == facts(theirs)


def test_a_ring_and_back_on_one_rank(isoflop: Any, words: list[str]) -> None:
    words += DECODER
    one = trained(isoflop, *words, "run.id=one")
    two = trained(isoflop, *words, *RING, "engine.zero_stage=3", "run.id=two")
    assert_same(two, one)
    back = half_way(two, "back", after=2)
    trained(isoflop, f"resume={back}", "launch.processes=1", "engine.sequence_parallel=1", "engine.zero_stage=0")
    assert_same(back, one)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [ULYSSES, EXPERTS, [*ULYSSES, *EXPERTS]], ids=["sequences", "experts", "both"])
def test_a_rank_killed_inside_its_group(isoflop: Any, words: list[str], tmp_path: Path, shared: list[str]) -> None:
    """The others end too, all start again from the last checkpoint, and the curve is that of one rank."""
    words += [*DECODER, *MIXTURE, "run.experiment=killed"]
    one = trained(isoflop, *words, "run.id=one", f"run.root={tmp_path / 'runs'}")
    faults = [{"kind": "kill", "rank": 1, "step": 3}]
    assert survive([*words, *shared, "launch.restarts=2", "run.id=two"], tmp_path, faults, starts=2) <= 2
    assert_same(tmp_path / "runs" / "killed" / "two", one)
