"""Runs whose feed-forwards compute tile by tile make the curve of those that do not, at every stage and where ranks
share sequences."""

from __future__ import annotations

from typing import Any

import pytest

from tests.trainer.training.half_way import trained
from tests.trainer.training.test_sequence_layouts import FAMILIES, RING, ULYSSES, assert_same, curve, words

__all__ = ["words"]  # a fixture
TILE, TWO = "engine.feed_forward_tile=7", "launch.processes=2"
LAYOUTS = [
    ["engine.zero_stage=0"],
    [TWO, "engine.zero_stage=1", "engine.activation_checkpointing=selective"],
    [TWO, "engine.zero_stage=2", "engine.micro_batch=2"],
    [TWO, "engine.zero_stage=3", "engine.activation_checkpointing=true"],
    [TWO, "engine.zero_stage=3", "engine.micro_batch=2"],
    [*ULYSSES, "engine.zero_stage=3", "engine.activation_checkpointing=true"],
]


def test_in_tiles_on_a_ring_at_stage_3(isoflop: Any, words: list[str]) -> None:
    words += FAMILIES["decoder"]
    one = trained(isoflop, *words, "run.id=one")
    assert_same(trained(isoflop, *words, TILE, *RING, "engine.zero_stage=3", "run.id=two"), one)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_one_curve(isoflop: Any, words: list[str], family: str) -> None:
    words += FAMILIES[family]
    one = trained(isoflop, *words, "run.id=one")
    for number, layout in enumerate(LAYOUTS):
        assert_same(trained(isoflop, *words, TILE, *layout, f"run.id=layout-{number}"), one)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_half_the_wire(isoflop: Any, words: list[str], stage: int) -> None:
    """Weights that travel in bf16 change no bit, also where a tile after the other uses them."""
    words += [*FAMILIES["decoder"], "engine.precision=bf16", TWO, f"engine.zero_stage={stage}", TILE]
    whole = trained(isoflop, *words, "run.id=fp32")
    half = trained(isoflop, *words, "engine.wire=bf16", "run.id=bf16")
    assert curve(half) == curve(whole)
