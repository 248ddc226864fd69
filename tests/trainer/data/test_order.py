from __future__ import annotations

import numpy as np
import pytest

from trainer.data.order import Order


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 17, 64, 100, 1023, 1025, 20_000])
def test_every_epoch_reads_every_sample_once(n):
    order = Order(n, seed=3)
    for epoch in range(2):
        assert np.array_equal(np.sort(order(epoch * n, (epoch + 1) * n)), np.arange(n))


def test_any_range_agrees_with_one_sample_at_a_time():
    whole = Order(10_000, seed=1)(0, 30_000)
    for start, stop in ((0, 1), (8191, 8193), (9_990, 10_010), (19_999, 25_000), (7, 7)):
        assert np.array_equal(Order(10_000, seed=1)(start, stop), whole[start:stop])


def test_epochs_and_seeds_differ():
    order = Order(1000, seed=1)
    first, second, other = order(0, 1000), order(1000, 2000), Order(1000, seed=2)(0, 1000)
    for a, b in ((first, second), (first, other), (first, np.arange(1000))):
        assert (a == b).mean() < 0.02  # a random permutation has one fixed point on average


def test_positions_are_uniform():
    """Where sample 0 lands over many seeds, and its distance to sample 1, against the uniform distribution."""
    n, seeds = 10, 4000
    drawn = np.array([Order(n, seed)(0, 2) for seed in range(seeds)])
    for values, cells in ((drawn[:, 0], n), ((drawn[:, 1] - drawn[:, 0]) % n - 1, n - 1)):
        counts = np.bincount(values, minlength=cells)
        chi_squared = ((counts - seeds / cells) ** 2 / (seeds / cells)).sum()
        assert chi_squared < 35  # 9 degrees of freedom: 0.006%


def test_a_trillion_samples_cost_nothing():
    order = Order(10**12, seed=0)
    positions = order(10**12 - 3, 10**12 + 3)
    assert len(np.unique(positions)) >= 5 and positions.max() < 10**12


def test_the_order_never_moves():
    """Golden: a change here reorders the data of every run that is resumed."""
    assert Order(1000, seed=0)(0, 8).tolist() == [821, 305, 453, 239, 387, 236, 143, 99]
    assert Order(10**9, seed=12345)(10**9, 10**9 + 4).tolist() == [93855372, 971696633, 179786374, 123401414]
    assert Order(1000, seed=0, stream=("order", 1 << 32))(0, 4).tolist() == [
        532,
        220,
        980,
        244,
    ]  # of a second sequence length
