from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def batch(make, window, text):
    return make(258, name="permuted_lm", rate=1 / 6, longest=5).apply(window(text(1500, 256)))


def test_targets_stand_at_their_place_and_nothing_is_replaced(batch, text, specials):
    hidden = batch["targets"] != -100
    assert np.array_equal(batch["tokens"][:, 1:-1], text(1500, 256))
    assert np.array_equal(batch["targets"][hidden], batch["tokens"][hidden])
    assert not hidden[:, 0].any() and not hidden[:, -1].any()
    count = hidden.sum(axis=1)
    assert count.max() <= round(256 / 6) and count.mean() == pytest.approx(256 / 6, rel=0.12)


def test_order_is_a_random_permutation_of_the_targets(batch):
    hidden = batch["targets"] != -100
    assert (batch["order"][~hidden] == 0).all()
    later = []
    for order, targets in zip(batch["order"], hidden, strict=True):
        ranks = order[targets]
        assert sorted(ranks.tolist()) == list(range(1, len(ranks) + 1))
        later.append((ranks[1:] > ranks[:-1]).mean())
    assert np.mean(later) == pytest.approx(0.5, abs=0.01)


def test_runs_are_whole_words(batch, vocabulary, text):
    """Both ends are ends of words, which the reference implementation misses in a third of the cases."""
    begins = np.pad(vocabulary.word_starts(text(1500, 256)), ((0, 0), (1, 1)), constant_values=True)
    hidden = batch["targets"] != -100
    edges = np.diff(hidden.astype(np.int8), axis=1, prepend=0)
    assert (edges == 1).sum() > 20_000
    assert begins[edges == 1].all() and begins[edges == -1].all()


def test_runs_of_one_to_five_words(make, window, vocabulary):
    """p ~ 1/n: 60, 30, 20, 15, 12 of 137."""
    word = int(vocabulary.ordinary[0] + (-vocabulary.ordinary[0]) % 10)
    hidden = (
        make(2002, name="permuted_lm", rate=0.05, longest=5).apply(window(np.full((400, 2000), word)))["targets"]
        != -100
    )
    edges = np.diff(hidden.astype(np.int8), axis=1)
    runs = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    for n, share in enumerate((60, 30, 20, 15, 12), start=1):
        assert (runs == n).mean() == pytest.approx(share / 137, abs=0.03)


def test_short_rows(make, window, text):
    lengths = np.array([0, 1, 2, 3, 5, 30])
    batch = make(32, name="permuted_lm", rate=1 / 6, longest=5, packing="padded").apply(window(text(6, 30), lengths))
    hidden = batch["targets"] != -100
    assert (batch["segments"] == 0).sum(axis=1).tolist() == [0, 3, 4, 5, 7, 32]
    assert not hidden[batch["segments"] == -1].any()


def test_memory_is_read_and_never_predicted(make, window, text):
    built = make(130, name="permuted_lm", rate=1 / 6, longest=5, memory=64)
    assert (built.length, built.stride) == (128, 64)
    batch = built.apply(window(text(400, 128)))
    hidden = batch["targets"] != -100
    assert not hidden[:, :65].any() and (batch["order"][:, :65] == 0).all()
    assert np.array_equal(batch["tokens"][:, 1:-1], text(400, 128))
    count = hidden.sum(axis=1)
    assert count.max() <= round(64 / 6) and count.mean() == pytest.approx(64 / 6, rel=0.15)
    short = built.apply(window(text(4, 128), np.array([0, 30, 64, 65])))  # nothing but memory
    assert (short["targets"] != -100).sum(axis=1).tolist() == [0, 0, 0, 0]


def test_what_memory_holds_learns_nothing_of_the_targets(make, window, text):
    """Through any number of layers: who a token sees, and whom those see, has an order of at most its own."""
    batch = make(66, name="permuted_lm", rate=0.3, longest=5, memory=32).apply(window(text(20, 64)))
    for order in batch["order"]:
        content = order[None] <= order[:, None]  # sees itself
        query = order[None] < order[:, None]
        reached = content
        for _ in range(6):
            reached = (reached.astype(int) @ content.astype(int)) > 0
        through = (query.astype(int) @ reached.astype(int)) > 0
        targets = order > 0
        assert not (through & (order[None] >= order[:, None]))[targets].any()
        assert not reached[:33][:, targets].any()
