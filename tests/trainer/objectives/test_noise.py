from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.objectives import noise


def test_bits_are_those_of_a_fresh_philox():
    """An independent truth: numpy's generator, made anew for each draw."""
    for seed, purpose, index in ((0, "order", 0), (2**63 - 1, "noise", 2**63), (7, "partner", 12345)):
        key = np.array([seed, noise.PURPOSES[purpose]], np.uint64)
        fresh = np.random.Philox(key=key, counter=np.array([0, 0, 0, index], np.uint64))
        assert np.array_equal(noise.bits(seed, purpose, index, 9), fresh.random_raw(9))


def test_stretches_are_parts_of_the_streams():
    index, counts, parts = np.array([5, 6, 5, 9]), np.array([3, 0, 11, 1]), np.array([0, 1, 2, 2])
    for first in (0, 1, 4, 6, 1027):
        wanted = [
            noise.bits(3, "noise", number, first + count, part)[first:]
            for number, count, part in zip(index.tolist(), counts.tolist(), parts.tolist(), strict=True)
        ]
        found = noise.stretches(3, "noise", index, counts, parts, first)
        assert np.array_equal(found, np.concatenate(wanted))


def test_bits_never_move():
    assert noise.bits(0, "order", 0, 2).tolist() == [15003734204198539638, 13859618513508960101]
    assert noise.bits(12345, "noise", 678, 1).tolist() == [7593997755700080063]


def test_streams_differ():
    streams = [noise.bits(s, p, i, 4).tolist() for s in (0, 1) for p in noise.PURPOSES for i in (0, 1)]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_choices_are_uniform_over_sets():
    rows = 30_000
    eligible = np.array([True, True, False, True, True])
    raw, lengths = noise.rows(1, "noise", np.arange(rows), 5).ravel(), np.full(rows, 5)
    chosen = noise.choose(raw, lengths, np.tile(eligible, rows), np.full(rows, 2)).reshape(rows, 5)
    assert (chosen.sum(axis=1) == 2).all() and not chosen[:, 2].any()
    counts = np.unique(chosen @ (1 << np.arange(5)), return_counts=True)[1]
    assert len(counts) == 6 and abs(counts - 5000).max() < 4 * math.sqrt(5000 * 5 / 6)


def few(index, part, width, bound, count, tries):
    """choose_few's answer as truth values."""

    def draw(counts, part):
        return noise.stretches(1, "noise", index, counts, part)

    chosen = np.zeros((len(count), width), bool)
    origin, tries = width * np.arange(len(count)), np.full(len(count), tries)
    chosen.ravel()[noise.choose_few(draw, part, origin, bound, count, tries)] = True
    return chosen


@pytest.mark.parametrize("tries", [3, 8, 40])
def test_few_choices_are_uniform_over_sets(tries):
    """3 of the first 5 places of 7; few tries fall back on the other way, which changes nothing of the law."""
    rows = 30_000
    chosen = few(np.arange(rows), 0, 7, np.full(rows, 5), np.full(rows, 3), tries)
    assert (chosen.sum(axis=1) == 3).all() and not chosen[:, 5:].any()
    counts = np.unique(chosen @ (1 << np.arange(7)), return_counts=True)[1]
    assert len(counts) == 10 and abs(counts - 3000).max() < 4 * math.sqrt(3000 * 0.9)


def test_few_choices_of_mixed_rows():
    """A row's choice depends on its own numbers alone, and every count from none to all is met."""
    rng = np.random.default_rng(0)
    bound = rng.integers(1, 50, 500)
    count = np.minimum(rng.integers(0, 60, 500), bound)
    chosen = few(np.arange(500), 2, 50, bound, count, 30)
    assert np.array_equal(chosen.sum(axis=1), count)
    assert not (chosen & (np.arange(50) >= bound[:, None])).any()
    assert np.array_equal(few(np.arange(77, 78), 2, 50, bound[77:78], count[77:78], 30)[0], chosen[77])


def test_choices_at_the_edges():
    raw = noise.rows(1, "noise", np.arange(4), 3).ravel()
    eligible = np.array([[1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 0, 1]], bool)
    chosen = noise.choose(raw, np.full(4, 3), eligible.ravel(), np.array([0, 99, 5, 2])).reshape(4, 3)
    assert chosen.sum(axis=1).tolist() == [0, 3, 0, 2] and not (chosen & ~eligible).any()


@pytest.mark.parametrize("mean", [1.0, 3.0, 3.5])
def test_poisson(mean):
    drawn = noise.poisson(noise.bits(3, "noise", 0, 200_000), mean)
    assert drawn.mean() == pytest.approx(mean, abs=4 * math.sqrt(mean / 200_000))
    for k in range(6):
        p = math.exp(-mean) * mean**k / math.factorial(k)
        assert (drawn == k).mean() == pytest.approx(p, abs=4 * math.sqrt(p / 200_000))


@pytest.mark.parametrize("mean", [0.5, 3.0, 40.0])
def test_poisson_inverts_the_distribution(mean):
    """Against a count of the probabilities that a chance exceeds; chances at random and at the edges of cells."""
    edges = np.arange(1024, dtype=np.uint64) << np.uint64(54)
    raw = np.concatenate([noise.bits(4, "noise", 0, 5000), edges, edges[1:] - np.uint64(1)])
    probabilities = np.array([math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(150)])
    wanted = (noise.uniform(raw)[:, None] >= np.cumsum(probabilities)).sum(axis=1)
    assert np.array_equal(noise.poisson(raw.reshape(-1, 1), mean)[:, 0], wanted)


def test_harmonic():
    drawn = noise.harmonic(noise.bits(3, "noise", 0, 110_000), 3)
    for n, p in ((1, 6 / 11), (2, 3 / 11), (3, 2 / 11)):
        assert (drawn == n).mean() == pytest.approx(p, abs=4 * math.sqrt(p / 110_000))


def test_random_rounding_keeps_the_mean():
    value = np.full(100_000, 7.3)
    rounded = noise.round_randomly(noise.bits(3, "noise", 0, 100_000), value)
    assert set(rounded.tolist()) == {7, 8} and rounded.mean() == pytest.approx(7.3, abs=0.006)
