"""Feed-forwards that are computed tile by tile make the curve of whole ones, at every stage and where ranks share
sequences, and send no byte more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.trainer.training.half_way import trained
from tests.trainer.training.test_sequence_layouts import DECODER, RING, ULYSSES, assert_same, words
from tests.trainer.training.test_wire import EACH_PASS, Run, assert_same_bits, runs, settings
from trainer.books.wire import wire

FAMILIES = {
    "decoder": DECODER,
    "encoder": ["model=bert-mini", "model.heads=4", "objective=masked_lm"],
    "encoder_decoder": ["model=t5-mini", "model.heads=4", "objective=span_corruption"],
}

__all__ = ["words"]  # a fixture
TILE = {"feed_forward_tile": 7}
TASKS: dict[str, dict[str, Any]] = {
    "whole": settings(0, "fp32"),
    **{f"stage {stage}": settings(stage, "fp32", **TILE) for stage in range(4)},
    "recomputed": settings(3, "fp32", **TILE, activation_checkpointing=True),
    "each pass": settings(3, "fp32", zero=EACH_PASS, **TILE),
    "bf16": settings(3, **TILE),
    "bf16, half the wire": settings(3, **TILE, wire="bf16"),
}


@pytest.fixture(scope="module")
def of_two() -> dict[str, Run]:
    return dict(zip(TASKS, runs([{"config": one} for one in TASKS.values()]), strict=True))


@pytest.mark.parametrize("name", [name for name in TASKS if TASKS[name]["engine"]["precision"] == "fp32"])
def test_one_curve_at_every_stage(of_two: dict[str, Run], name: str) -> None:
    for ours, theirs in zip(of_two[name].losses, of_two["whole"].losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_half_the_wire_changes_no_bit(of_two: dict[str, Run]) -> None:
    assert_same_bits(of_two["bf16, half the wire"], of_two["bf16"])


@pytest.mark.parametrize("name", ["stage 2", "stage 3", "each pass"])
def test_weights_are_gathered_around_all_tiles(of_two: dict[str, Run], name: str) -> None:
    run = of_two[name]
    assert run.sent == pytest.approx(wire(run.config).total, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shared", [ULYSSES, RING], ids=["ulysses", "ring"])
def test_tiles_of_shared_sequences(isoflop: Any, words: list[str], family: str, shared: list[str]) -> None:
    """With dropout, whose masks are by position."""
    words += FAMILIES[family]
    one = trained(isoflop, *words, "run.id=one")
    two = [*words, *shared, "engine.feed_forward_tile=7", "engine.zero_stage=3", "run.id=two"]
    assert_same(trained(isoflop, *two), one)
