"""A bag of words sees which words a text has, and nothing else."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from trainer.evaluate.baseline import bag_of_words, most_frequent


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(0)


def texts(chance: np.random.Generator, count: int) -> list[list[str]]:
    return [[f"w{word}" for word in chance.integers(0, 20, 6)] for _ in range(count)]


def predicted(train: list[list[str]], labels: np.ndarray, held_out: list[list[str]]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a baseline has nothing to say but its scores
        return bag_of_words([[" ".join(one)] for one in train], labels, [[" ".join(one)] for one in held_out], 2)


def test_one_word_decides(chance):
    train, held_out = texts(chance, 400), texts(chance, 100)
    labels, truth = (np.array(["w3" in one or "w7" in one for one in part], np.int64) for part in (train, held_out))
    assert (predicted(train, labels, held_out) == truth).mean() > 0.95


def test_order_is_not_seen(chance):
    train, held_out = texts(chance, 400), texts(chance, 100)
    labels = np.array([one[0] < one[-1] for one in train], np.int64)
    assert (predicted(train, labels, held_out) == predicted(train, labels, [one[::-1] for one in held_out])).all()


def test_the_same_word_in_two_texts_is_two_words(chance):
    words = [[f"w{first}", f"w{second}"] for first, second in chance.integers(0, 5, (400, 2))]
    labels = np.array([first == "w1" for first, _ in words], np.int64)
    assert (bag_of_words(words, labels, words, 2) == labels).all()


def test_texts_that_tell_nothing_get_the_most_frequent_class():
    labels = np.array([0, 1, 1, 0, 1])
    assert (predicted([["same"]] * 5, labels, [["same"], ["other"]]) == most_frequent(labels, 2)).all()
