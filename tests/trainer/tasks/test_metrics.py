"""Metrics against what they are by definition, by hand and by numpy."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.tasks import metrics


def test_matthews_is_the_correlation_of_two_classes():
    chance = np.random.default_rng(0)
    for _ in range(20):
        predicted, true = chance.integers(2, size=50), chance.integers(2, size=50)
        assert metrics.matthews(predicted, true) == pytest.approx(np.corrcoef(predicted, true)[0, 1])


def test_matthews_of_several_classes():
    """Gorodkin's R_K of the confusion matrix [[2, 1, 0], [0, 1, 1], [0, 0, 2]], by his formula with fractions."""
    true, predicted = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 2, 2, 2])
    assert metrics.matthews(predicted, true) == pytest.approx((7 * 5 - 16) / np.sqrt((49 - 17) * (49 - 17)))
    assert metrics.matthews(np.zeros(7, int), true) == 0


def test_f1_by_hand():
    true, predicted = np.array([1, 1, 1, 0, 0]), np.array([1, 0, 1, 1, 0])
    assert metrics.f1(predicted, true, 1) == pytest.approx(2 / 3)
    assert metrics.f1(predicted, true, 0) == pytest.approx(1 / 2)
    assert metrics.macro_f1(predicted, true) == pytest.approx(7 / 12)
    assert metrics.f1(predicted, true, 5) == 0


def test_wilson_of_the_textbook():
    """Newcombe 1998, table I: 81 of 263, method 3 without continuity correction."""
    assert metrics.wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson(0, 20)[0] == pytest.approx(0) and metrics.wilson(0, 20)[1] == pytest.approx(0.1611, abs=5e-5)


def test_intervals_hold_their_mean_as_often_as_they_say():
    chance = np.random.default_rng(1)
    held = [low < 0.3 < high for low, high in (metrics.mean_interval(chance.normal(0.3, 1, 60)) for _ in range(1000))]
    assert 0.93 < np.mean(held) < 0.97


def test_entities_as_conll_counts_them():
    assert metrics.entities(["B-A", "I-A", "O", "I-B", "I-A", "B-A"]) == {
        (0, 2, "A"),
        (3, 4, "B"),
        (4, 5, "A"),
        (5, 6, "A"),
    }
    assert metrics.entity_f1([["B-A", "O"], ["O", "B-A"]], [["B-A", "I-A"], ["O", "B-A"]]) == pytest.approx(0.5)


def test_answers_as_squad_compares_them():
    assert metrics.answer_scores("The Broncos!", ["Denver Broncos", "broncos"]) == (1.0, 1.0)
    assert metrics.answer_scores("Denver the Broncos", ["Denver team Broncos"]) == (0.0, pytest.approx(0.8))
    assert metrics.answer_scores("", []) == (1.0, 1.0)
    assert metrics.answer_scores("something", []) == (0.0, 0.0)


def test_chrf_and_rouge_are_those_of_their_packages():
    sacrebleu = pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    said, there = ["the cat", "a dog sees it", "ja"], ["the cat sat down", "a dog saw it", "ja"]
    scores = metrics.text_scores(said, there)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(said, [there]).score / 100)
    # Longest common subsequences of 2, 3 and 1 words, by hand
    assert scores["rouge_l"] == pytest.approx((2 * 2 / 6 + 2 * 3 / 8 + 1) / 3)
    assert metrics.text_scores(there, there) == pytest.approx({"chrf": 1, "rouge_l": 1})
