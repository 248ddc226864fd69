"""Which source a sample is of: exact shares after any number of samples, and no state."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from trainer.tasks.interleaving import Interleaving


def shares_of(weights: list[int]) -> dict[str, Fraction]:
    return {f"s{number}": Fraction(weight, sum(weights)) for number, weight in enumerate(weights)}


def weights_of(count: int, seed: int) -> list[int]:
    """Of very different sizes."""
    chance = random.Random(f"{count} {seed}")
    return [int(10 ** chance.uniform(0, 5)) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 12])
@pytest.mark.parametrize("seed", range(3))
def test_after_any_number_of_samples_each_source_has_its_share(count: int, seed: int) -> None:
    """The counts are made one by one from the sequence, the shares are fractions."""
    shares = shares_of(weights_of(count, seed))
    mixing = Interleaving(shares)
    seen = dict.fromkeys(shares, 0)
    for sample in range(1500):
        name, number = mixing(sample)
        assert number == seen[name]  # without gaps
        seen[name] += 1
        assert seen == mixing.counts(sample + 1)
        assert max(abs(seen[one] - (sample + 1) * share) for one, share in shares.items()) <= mixing.bound + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_up_to_four_sources_are_within_one(seed: int) -> None:
    for count in (2, 3, 4):
        assert Interleaving(shares_of(weights_of(count, seed))).bound < 1


@pytest.mark.parametrize("count", [5, 9, 16, 40])
def test_more_are_hardly_farther_away(count: int) -> None:
    for seed in range(5):
        assert Interleaving(shares_of(weights_of(count, seed))).bound < 1.2
    assert Interleaving(shares_of([1] * count)).bound < 1


def test_any_window_has_each_share_within_twice_the_bound() -> None:
    shares = shares_of([70, 20, 7, 3])
    mixing = Interleaving(shares)
    names = [mixing(sample)[0] for sample in range(600)]
    for size in (1, 2, 5, 31, 100, 257):
        for first in range(0, 600 - size):
            window = names[first : first + size]
            assert all(abs(window.count(one) - size * share) < 2 for one, share in shares.items())


def test_far_away_it_is_as_exact_as_at_the_beginning() -> None:
    """There is no sum of floats that drifts, and nothing is counted up to there."""
    shares = shares_of([999_983, 65_537, 10_007, 101, 1])
    mixing, at = Interleaving(shares), 10**15 + 7
    counts = mixing.counts(at)
    assert sum(counts.values()) == at
    assert all(abs(counts[one] - at * share) <= mixing.bound for one, share in shares.items())
    name, number = mixing(at)
    assert number == counts[name] and mixing.counts(at + 1)[name] == number + 1


def test_a_source_without_a_share_is_never_read() -> None:
    mixing = Interleaving({"text": Fraction(0), "a": Fraction(1, 3), "b": Fraction(2, 3)})
    assert mixing.counts(300) == {"text": 0, "a": 100, "b": 200}
