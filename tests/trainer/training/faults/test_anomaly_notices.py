"""Healthy runs are quiet, and what is no chance is told at once: on losses and gradient norms of real runs.

healthy.npz: losses and gradient norms (float16) of 5,700 steps of five small runs on the source text of Python's
standard library, of batches so small that their tails are long. Each is `isoflop train model.width=64 model.heads=2
engine.precision=fp32` with

    model.depth=2 data.sequence_length=64 optim.batch_size=4 budget.steps=1200 seed=1
    model.depth=3 data.sequence_length=64 optim.batch_size=16 budget.steps=900 seed=2
    model=bert-mini objective=masked_lm model.depth=2 data.sequence_length=64 optim.batch_size=8
        budget.steps=1200 seed=3
    model=t5-mini objective=span_corruption model.depth=2 data.sequence_length=64 optim.batch_size=4
        budget.steps=900 seed=4
    model=gpt-mini model.depth=2 data.sequence_length=32 optim.batch_size=2 optim.lr=3e-3 budget.steps=1500 seed=5
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from trainer.config import AnomaliesConfig
from trainer.training.faults.anomalies import ENOUGH, Recent
from trainer.training.faults.guard import Gradients, Guard

WARMUP = 0.1  # of each run


def healthy() -> Iterator[np.ndarray]:
    """float64 [steps, 2] of each run: losses and gradient norms."""
    with np.load(Path(__file__).with_name("healthy.npz")) as kept:
        for name in kept:
            yield kept[name].astype(float)


def decided(guard: Guard, loss: float, norm: float, *, warming_up: bool) -> tuple[str, list[str]]:
    told: list[str] = []
    _, decision = guard.decide(
        lambda: Gradients(loss, norm, {}),
        lambda: None,
        lambda event, text: told.append(event),
        warming_up=warming_up,
    )
    return decision, told


def test_a_healthy_run_is_quiet() -> None:
    """Less than one notice in 5,000 steps but for norms that are 20 times as large as usual; none in a warm-up."""
    steps, told = 0, []
    for run in healthy():
        guard = Guard(AnomaliesConfig(), {})
        for step, (loss, norm) in enumerate(run):
            warming_up, usual = step < WARMUP * len(run), median(guard.recent.norms or [norm])
            decision, events = decided(guard, loss, norm, warming_up=warming_up)
            assert decision == "update" and not (warming_up and events)
            told += [norm / usual for _ in events]
        steps += len(run)
    assert steps == 5700
    assert len([ratio for ratio in told if ratio < 20]) == 0 and len(told) <= 1


def test_the_policies_act_on_more_than_is_told() -> None:
    """They keep what a spike is: so many deviations above the median of the window."""
    guard, acted = Guard(AnomaliesConfig(spike="skip", limit=10**6), {}), 0
    *_, run, _ = healthy()
    for loss, norm in run[:450]:
        spike = guard.recent.check(loss, norm)
        decision, _ = decided(guard, loss, norm, warming_up=True)
        assert decision == ("skip" if spike else "update")
        acted += decision == "skip"
    assert acted > 5


@pytest.mark.parametrize(
    ("of_loss", "of_norm", "kind"),
    [(2.0, 1.0, "spike"), (1.0, 20.0, "spike"), (math.nan, 1.0, "nonfinite"), (1.0, math.inf, "nonfinite")],
)
def test_what_is_no_chance_is_told_at_once(of_loss: float, of_norm: float, kind: str) -> None:
    """A loss twice and a norm twenty times as large as usual, after every 7th step, in the warm-up as well."""
    for run in healthy():
        recent = Recent(AnomaliesConfig())
        for step, (loss, norm) in enumerate(run):
            if step >= ENOUGH and step % 7 == 0:
                usual_loss, usual_norm = (median(list(values)[-32:]) for values in (recent.losses, recent.norms))
                anomalous = of_loss * max(loss, usual_loss), of_norm * max(norm, usual_norm)
                guard = Guard(AnomaliesConfig(nonfinite="skip"), recent.state())
                _, told = decided(guard, *anomalous, warming_up=step < WARMUP * len(run))
                assert told == [kind], (step, anomalous)
            recent.keep(loss, norm)


def test_a_loss_that_leaves_its_noise_is_told_before_it_has_doubled() -> None:
    """Of a large batch: a hundredth of noise, and half as much again."""
    chance = np.random.default_rng(0)
    guard = Guard(AnomaliesConfig(), {})
    for _ in range(200):
        assert decided(guard, 2.5 + chance.normal(0, 0.025), 0.3, warming_up=False) == ("update", [])
    assert decided(guard, 3.75, 0.3, warming_up=True) == ("update", [])  # the rate still rises
    assert decided(guard, 3.75, 0.3, warming_up=False) == ("update", ["spike"])


def test_spikes_that_come_again_are_told_again() -> None:
    guard = Guard(AnomaliesConfig(), {})
    for _ in range(40):
        decided(guard, 3.0, 1.0, warming_up=False)
    assert [decided(guard, 6.5, 1.0, warming_up=False)[1] for _ in range(3)] == [["spike"]] * 3
