"""Ranks that share their sequences make the curve of one rank, which has whole ones: with packed documents, dropout,
encoders and decoders, at every stage; and a run goes on between such layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.training.half_way import half_way, trained
from trainer.trackers import read_metrics

STEPS = 4
FAMILIES = {
    "decoder": ["model=llama-mini", "model.heads=4", "model.kv_heads=1"],
    "encoder": ["model=bert-mini", "model.heads=4", "objective=masked_lm"],
    "encoder_decoder": ["model=t5-mini", "model.heads=4", "objective=span_corruption"],
}
ULYSSES, RING = (["engine.sequence_parallel=2", f"engine.sequence_kind={kind}"] for kind in ("ulysses", "ring"))


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


def test_a_decoder_on_two_ranks_and_back_on_one(isoflop: Any, words: list[str]) -> None:
    words += FAMILIES["decoder"]
    one = trained(isoflop, *words, "run.id=one")
    for number, kind in enumerate((ULYSSES,)):
        two = trained(isoflop, *words, "launch.processes=2", *kind, f"run.id=two-{number}")
        assert_same(two, one)
    back = half_way(two, "back", after=2)
    trained(isoflop, f"resume={back}", "launch.processes=1", "engine.sequence_parallel=1")
    assert_same(back, one)
