"""The estimates of gradient noise against the distribution that the gradients were drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.training.diagnostics.noise import Contribution, Measurement, measured, noise_scale, parts_of

SIGNAL = np.linspace(0.1, 0.5, 20)  # the gradient without noise
SPREAD = 2.0  # of a sequence's gradient sum, in each of 20 directions


def step(chance: np.random.Generator, micro_batches: list[int]) -> tuple[tuple[float, ...], float, float]:
    """Parts, targets and norm of a step whose micro-batches have so many sequences of 1 to 9 targets each."""
    contributions, whole, total = [], np.zeros(20), 0
    for sequences in micro_batches:
        targets = chance.integers(1, 10, sequences)
        gradient = (targets[:, None] * SIGNAL + SPREAD * chance.standard_normal((sequences, 20))).sum(axis=0)
        contributions.append(Contribution(int(targets.sum()), sequences, float(gradient @ gradient)))
        whole, total = whole + gradient, total + int(targets.sum())
    return parts_of(contributions), float(total), float(np.linalg.norm(whole) / total)


@pytest.mark.parametrize("micro_batches", [[4, 4], [1, 1, 1, 1], [6, 2], [5, 1, 2, 0]])
def test_unbiased_for_any_micro_batches_and_targets(micro_batches: list[int]) -> None:
    chance, draws = np.random.default_rng(3), 4000
    errors = []
    for number in range(draws):
        parts, targets, norm = step(chance, micro_batches)
        found = measured(number, parts, targets, norm)
        assert found is not None
        per_target = targets / sum(micro_batches)
        errors.append((found.trace - 20 * SPREAD**2 / per_target**2, found.square - SIGNAL @ SIGNAL))
    mean, error = np.mean(errors, axis=0), np.std(errors, axis=0) / draws**0.5
    assert (np.abs(mean) < 4 * error).all()
    assert (error < [0.1, 0.02]).all()  # so that a bias would be seen


def test_one_micro_batch_tells_nothing() -> None:
    parts, targets, norm = step(np.random.default_rng(0), [8, 0])
    assert measured(1, parts, targets, norm) is None
    parts, targets, _ = step(np.random.default_rng(0), [4, 4])
    assert measured(1, parts, targets, float("inf")) is None


def test_the_interval_holds_the_ratio_as_often_as_it_says() -> None:
    """300 runs of 40 steps: the ratio of both means lies in 95 % of the intervals, within 3.5 deviations of that."""
    chance, inside = np.random.default_rng(1), 0
    for _ in range(300):
        steps = [
            Measurement(n, chance.normal(6, 1), chance.normal(2, 0.5)) for n in range(40)
        ]  # of one distribution: their ratio is 3
        found = noise_scale(steps)
        inside += found["noise_scale_low"] < 3 < found["noise_scale_high"]  # type: ignore[operator]
    assert 0.88 < inside / 300 <= 0.99


def test_newer_steps_weigh_more_and_one_gives_no_interval() -> None:
    old, new = Measurement(1, 1.0, 1.0), Measurement(2, 3.0, 1.0)
    assert noise_scale([old])["noise_scale"] == 1.0
    assert noise_scale([old])["noise_scale_low"] is None
    found = noise_scale([old, *[new] * 60])["noise_scale"]
    assert isinstance(found, float) and 2.9 < found < 3.0


def test_noise_that_hides_the_signal_is_said() -> None:
    found = noise_scale([Measurement(1, 2.0, -0.1)])
    assert found["noise_scale"] is None and "not above 0" in str(found["reason"])
