"""Small-sample statistics against printed tables and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.scaling.statistics import holm, mean_interval, student_quantile, student_tail, welch


@pytest.mark.parametrize(
    ("freedom", "level", "t"),
    [(1, 0.95, 12.706), (2, 0.95, 4.303), (4, 0.95, 2.776), (4, 0.99, 4.604), (30, 0.95, 2.042), (1e6, 0.95, 1.960)],
)
def test_quantiles_are_those_of_printed_tables(freedom: float, level: float, t: float) -> None:
    assert student_quantile(freedom, level) == pytest.approx(t, abs=6e-4)
    assert student_tail(t, freedom) == pytest.approx(1 - level, rel=2e-3)


def test_tails_have_closed_forms_for_one_and_two_degrees_of_freedom() -> None:
    for t in (0.0, 0.3, 1.0, 7.0, 300.0):
        assert student_tail(t, 1) == pytest.approx(1 - 2 / np.pi * np.arctan(t), abs=1e-12)
        assert student_tail(t, 2) == pytest.approx(1 - t / np.sqrt(2 + t * t), abs=1e-12)


def test_welch_of_a_worked_example() -> None:
    """Data of the usual textbook example of unequal variances: t = -2.84 with 27.9 degrees of freedom, p = 0.0085."""
    a = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
    b = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 30.5, 24.4]
    made = welch(b, a)
    assert made is not None
    variances = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    assert made.t == pytest.approx((np.mean(a) - np.mean(b)) / np.sqrt(sum(variances)))
    assert made.p < 0.05 and made.difference < 0


def test_welch_is_level_when_nothing_differs() -> None:
    random = np.random.default_rng(0)
    tests = [welch(random.normal(0, 1, 3).tolist(), random.normal(0, 2, 4).tolist()) for _ in range(1000)]
    assert np.mean([test.p < 0.05 for test in tests if test]) == pytest.approx(0.05, abs=0.022)


def test_single_values_tell_nothing_of_spread() -> None:
    assert welch([1.0], [2.0, 3.0]) is None
    assert mean_interval([1.5]) == (1.5, None)
    same = welch([1.0, 1.0], [1.0, 1.0])
    assert same is not None and same.p == 1.0
    apart = welch([1.0, 1.0], [2.0, 2.0])
    assert apart is not None and (apart.p, apart.half_width) == (0.0, 0.0)


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(600):
        mean, half = mean_interval(random.normal(5, 2, 3).tolist())
        inside += abs(mean - 5) <= (half or 0)
    assert inside / 600 == pytest.approx(0.95, abs=0.027)


def test_holm_is_stricter_than_single_tests_and_milder_than_bonferroni() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
