"""Metrics against scikit-learn's definitions worked by hand, and properties."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.evaluate.tasks.metrics import Answer, measure
from trainer.evaluate.tasks.task import Item, Metric
from trainer.tasks.metrics import answer_scores, f1, macro_f1, matthews, normalized


def answers(labels, chosen, groups=None):
    made = []
    for number, (label, choice) in enumerate(zip(labels, chosen, strict=True)):
        item = Item("?", ("a",), ("a", "b"), label, group=groups[number] if groups else "")
        made.append(Answer(item, tuple(1.0 if place == choice else 0.0 for place in range(2))))
    return made


def test_accuracy_and_its_standard_error():
    """The error of a share p of n is sqrt(p (1 - p) / (n - 1))."""
    found = measure(Metric("acc"), answers([0, 1, 1, 0, 1], [0, 1, 0, 0, 0]))
    assert found.value == 0.6 and found.error == pytest.approx(math.sqrt(0.6 * 0.4 / 4))
    assert measure(Metric("acc"), answers([0], [0])).error is None


def test_length_normalised_accuracy():
    item = Item("?", ("long answer",), ("no", "long answer"), 1)
    answer = Answer(item, (-3.0, -8.0))
    assert measure(Metric("acc"), [answer]).value == 0 and measure(Metric("acc_norm"), [answer]).value == 1


def test_f1_by_hand():
    truth, chosen = np.array([1, 1, 1, 0, 0]), np.array([1, 0, 1, 1, 0])
    assert f1(chosen, truth, 1) == pytest.approx(2 * (2 / 3) * (2 / 3) / (4 / 3))
    assert f1(np.zeros(5, int), truth, 1) == 0
    assert macro_f1(chosen, truth) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_matthews_is_the_correlation_of_two_classes():
    chance = np.random.default_rng(0)
    for _ in range(20):
        truth, chosen = chance.integers(0, 2, (2, 50))
        assert matthews(chosen, truth) == pytest.approx(np.corrcoef(truth, chosen)[0, 1])
    assert matthews(truth, truth) == pytest.approx(1) and matthews(np.ones(50, int), truth) == 0


def test_metrics_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    chance = np.random.default_rng(1)
    for classes in (2, 3, 5):
        truth, chosen = chance.integers(0, classes, (2, 80))
        assert macro_f1(chosen, truth) == pytest.approx(metrics.f1_score(truth, chosen, average="macro"))
        assert matthews(chosen, truth) == pytest.approx(metrics.matthews_corrcoef(truth, chosen))
        if classes == 2:
            assert f1(chosen, truth, 1) == pytest.approx(metrics.f1_score(truth, chosen))


def test_a_question_is_right_when_all_its_answers_are():
    found = measure(Metric("group_em"), answers([0, 1, 1, 0], [0, 1, 0, 0], ["q1", "q1", "q2", "q2"]))
    assert found.value == 0.5


def test_squads_normalisation():
    assert normalized("The  Eiffel-Tower, a tower.") == "eiffeltower tower"
    assert (
        answer_scores("the red house", ["red car"])[1] == pytest.approx(2 * 1 / 4)
        and answer_scores("a b", ["c"])[1] == 0
    )


def test_exact_match_and_its_options():
    answer = Answer(Item("?", ("Paris", "paris, France")), text=" PARIS.\n")
    assert measure(Metric("exact_match"), [answer]).value == 0
    assert measure(Metric("exact_match", ignore_case=True, ignore_punctuation=True), [answer]).value == 1


def test_bits_per_byte_of_texts():
    """A text of 4 bytes that cost 8 bits, and one of 4 bytes that cost 16."""
    costs = [Answer(Item("", ("abcd",)), (-8 * math.log(2),)), Answer(Item("", ("häß",)), (-16 * math.log(2),))]
    size = 4 + len("häß".encode())
    assert measure(Metric("bits_per_byte"), costs).value == pytest.approx(24 / size)
    assert measure(Metric("byte_perplexity"), costs).value == pytest.approx(2 ** (24 / size))
