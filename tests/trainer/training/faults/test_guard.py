"""Which steps are anomalies, what the policy makes of them, and that a resumed run decides alike."""

from __future__ import annotations

import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from trainer.config import AnomaliesConfig
from trainer.training.faults.anomalies import ENOUGH, Recent, robust_z
from trainer.training.faults.guard import Gradients, Guard


def make_guard(state: dict[str, Any] | None = None, **rules: Any) -> Guard:
    return Guard(AnomaliesConfig.model_validate(rules), state or {})


def feed(guard: Guard, *values: tuple[float, float]) -> tuple[str, list[str], int]:
    """Have it decide on one step whose passes find these (loss, norm): decision, events, passes thrown away."""
    passes: Iterator[tuple[float, float]] = iter(values)
    told: list[str] = []
    discarded = []
    compute: Callable[[], Gradients] = lambda: Gradients(*next(passes), {})  # noqa: E731
    _, decision = guard.decide(compute, lambda: discarded.append(1), lambda name, text: told.append(name))
    assert next(passes, None) is None, "not every pass was asked for"
    return decision, told, len(discarded)


def settle(guard: Guard, steps: int = 40, seed: int = 0) -> None:
    chance = random.Random(seed)
    for _ in range(steps):
        assert feed(guard, (3 + chance.gauss(0, 0.05), 1 + chance.gauss(0, 0.1))) == ("update", [], 0)


def test_robust_z_is_the_plain_one_on_normal_numbers() -> None:
    values = np.random.default_rng(0).normal(5, 2, 100_001)
    assert robust_z(9.0, deque(values.tolist())) == pytest.approx(2.0, abs=0.03)
    spoiled = deque([*values.tolist(), *([1e9] * 1000)])
    assert robust_z(9.0, spoiled) == pytest.approx(2.0, abs=0.06)  # a plain z-score would be 0 here


def test_a_fault_of_the_machine_is_computed_away() -> None:
    guard = make_guard()
    settle(guard)
    assert feed(guard, (math.nan, 1.0), (3.0, 1.0)) == ("update", ["transient"], 1)
    assert feed(guard, (3.0, math.inf), (3.0, 1.0)) == ("update", ["transient"], 1)
    assert guard.state()["handled"] == 0


@pytest.mark.parametrize("policy", ["stop", "skip", "rollback"])
def test_what_comes_back_is_a_matter_for_the_policy(policy: str) -> None:
    guard = make_guard(nonfinite=policy, spike=policy)
    settle(guard)
    assert feed(guard, (math.nan, 1.0), (math.nan, 1.0)) == (policy, ["nonfinite"], 2)
    assert feed(guard, (9.0, 1.0), (9.0, 1.0)) == (policy, ["spike"], 2)
    assert feed(guard, (3.0, 40.0), (3.0, 40.0)) == (policy, ["spike"], 2)


def test_spikes_are_told_and_kept_where_they_are_ignored() -> None:
    guard = make_guard()
    settle(guard)
    assert feed(guard, (9.0, 1.0)) == ("update", ["spike"], 0)
    assert guard.recent.losses[-1] == 9.0


def test_falling_and_the_first_steps_are_never_anomalies() -> None:
    recent = Recent(AnomaliesConfig())
    for step in range(ENOUGH - 1):
        recent.keep(10.0, 1.0)
        assert recent.check(1e6, 1e6) is None, step
    recent.keep(10.0, 1.0)
    assert recent.check(0.1, 0.001) is None
    assert recent.check(10.5, 1.0) is None  # a plateau has no spread, but 5% is no spike
    assert recent.check(1e6, 1.0) is not None


def test_one_more_than_the_limit_stops() -> None:
    guard = make_guard(nonfinite="skip", limit=2)
    anomalous = ((math.nan, 1.0), (math.nan, 1.0))
    assert [feed(guard, *anomalous)[0] for _ in range(3)] == ["skip", "skip", "stop"]
    assert "anomalies.limit=2" in guard.reason


def test_a_resumed_run_decides_alike() -> None:
    chance = random.Random(3)
    rules = {"spike": "skip", "window": 32, "threshold": 4.0}
    whole, decisions = make_guard(None, **rules), []
    state: dict[str, Any] = {}
    draws = [(3 + abs(chance.gauss(0, 0.2)) ** 3, 1.0) for _ in range(400)]
    for number, draw in enumerate(draws):
        if number == 200:
            state = json.loads(json.dumps(whole.state()))  # as the manifest keeps it
        anomalous = whole.recent.check(*draw) is not None
        decisions.append(feed(whole, *([draw] * (2 if anomalous else 1)))[0])
    again = make_guard(state, **rules)
    for draw, decision in zip(draws[200:], decisions[200:], strict=True):
        anomalous = again.recent.check(*draw) is not None
        assert feed(again, *([draw] * (2 if anomalous else 1)))[0] == decision
    assert again.state() == whole.state()


def test_skipped_batches_move_the_next_batch_and_nothing_else() -> None:
    guard = make_guard()
    assert guard.batch(7) == 7
    guard.skip(7)
    assert guard.batch(7) == 8  # step 7 is tried again with the next batch
    saved = json.loads(json.dumps(guard.state()))
    guard.skip(12)
    guard.roll_back(10, saved, 13)  # batches 11, 12 and 13 had been read since
    assert guard.skipped_batches == [(7, 8), (11, 14)]
    assert guard.batch(10) == 14
    assert make_guard(json.loads(json.dumps(guard.state()))).batch(10) == 14
