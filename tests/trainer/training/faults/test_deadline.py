"""A wall limit is kept with time for a checkpoint, whatever the wall clock does."""

from __future__ import annotations

import time

import pytest

from trainer.training.faults.deadline import FACTOR, MARGIN_SECONDS, Deadline


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"monotonic": 1000.0, "wall": 1.7e9}
    monkeypatch.setattr(time, "monotonic", lambda: now["monotonic"])
    monkeypatch.setattr(time, "time", lambda: now["wall"])
    return now


def steps_until_stop(deadline: Deadline, clock: dict[str, float], seconds: float) -> int:
    for step in range(100_000):
        if deadline.reason():
            return step
        clock["monotonic"] += seconds
    raise AssertionError("never stopped")


def test_without_a_limit_there_is_no_reason(clock: dict[str, float]) -> None:
    assert Deadline(None, 10.0, {}).reason() is None


@pytest.mark.parametrize(("step", "save"), [(0.1, 1.0), (30.0, 5.0), (2.0, 400.0)])
def test_there_is_time_left_for_one_more_step_and_the_save(step: float, save: float, clock: dict[str, float]) -> None:
    deadline = Deadline(3600.0, save, {})
    steps = steps_until_stop(deadline, clock, step)
    left = 4600.0 - clock["monotonic"]
    assert left >= FACTOR * save + MARGIN_SECONDS - step / 2
    assert left <= FACTOR * (step + save) + MARGIN_SECONDS  # and not much more than that
    assert steps > 0


def test_what_was_measured_takes_the_place_of_the_guess(clock: dict[str, float]) -> None:
    deadline = Deadline(3600.0, 2000.0, {})
    assert deadline.save_seconds == 2000.0
    deadline.saved(1, 3.0)
    deadline.saved(2, 2.0)
    assert deadline.save_seconds == 3.0


def test_slurm_knows_the_end_and_the_nearer_limit_counts(clock: dict[str, float]) -> None:
    job = {"SLURM_JOB_END_TIME": str(int(1.7e9) + 600)}
    assert Deadline(None, 1.0, job).at == 1600.0
    assert Deadline(100.0, 1.0, job).at == 1100.0
    assert Deadline(9000.0, 1.0, job).at == 1600.0


def test_a_wall_clock_that_jumps_moves_nothing(clock: dict[str, float]) -> None:
    deadline = Deadline(None, 1.0, {"SLURM_JOB_END_TIME": str(int(1.7e9) + 600)})
    clock["wall"] += 10 * 365 * 86400
    assert deadline.reason() is None
    clock["wall"] = 0
    clock["monotonic"] += 595
    assert "wall-clock limit: 5 s left" in (deadline.reason() or "")
