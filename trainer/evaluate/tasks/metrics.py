"""From answers to scores with standard errors."""

from __future__ import annotations

import math
import re
import string
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from trainer.evaluate.tasks.task import Item, Metric
from trainer.tasks.metrics import answer_scores, f1, macro_f1, matthews, standard_error

RESAMPLES = 200  # of the bootstrap


@dataclass(frozen=True)
class Answer:
    """What the model did with an item. scores: nats of each choice, or of the one answer; text: what it wrote. right:
    nats of the right answer, and of what follows it; null where it was not scored."""

    item: Item
    scores: tuple[float, ...] = ()
    greedy: bool = False
    text: str = ""
    right: float | None = None

    @property
    def chosen(self) -> int:
        return int(np.argmax(self.scores))


@dataclass(frozen=True)
class Value:
    """A score and its standard error; null where there is none."""

    value: float
    error: float | None


def measure(metric: Metric, answers: Sequence[Answer]) -> Value:
    """The metric over these answers. Means have the standard error of a mean; f1 and mcc a bootstrapped one."""
    if metric.name in EACH:
        return _mean([EACH[metric.name](answer) for answer in answers])
    if metric.name == "exact_match":
        return _mean([_exact(answer, metric) for answer in answers])
    if metric.name in GROUPED:
        groups: dict[str, list[Answer]] = defaultdict(list)
        for answer in answers:
            groups[answer.item.group].append(answer)
        return _mean([GROUPED[metric.name](group) for group in groups.values()])
    if metric.name in ROLLING:
        return Value(ROLLING[metric.name](answers), None)
    if metric.name == "perplexity":
        return Value(math.exp(-_mean([answer.scores[0] for answer in answers]).value), None)
    truth = np.array([answer.item.label for answer in answers])
    chosen = np.array([answer.chosen for answer in answers])
    of = OVER_ALL[metric.name]
    return Value(of(chosen, truth), _bootstrapped(of, chosen, truth))


def _mean(values: Sequence[float]) -> Value:
    many = np.asarray(values, float)
    return Value(float(many.mean()), standard_error(many))


def _bootstrapped(of: OverAll, chosen: np.ndarray, truth: np.ndarray) -> float | None:
    if len(truth) < 2:
        return None
    chance = np.random.default_rng(0)
    draws = chance.integers(0, len(truth), (RESAMPLES, len(truth)))
    return float(np.std([of(chosen[draw], truth[draw]) for draw in draws], ddof=1))


def bits_per_byte(answers: Sequence[Answer]) -> Value | None:
    """Mean over items of the bits that the right answer costs, over its bytes in UTF-8, without the delimiter before
    it; null where no right answer was scored."""
    scored = [(one, one.right) for one in answers if one.right is not None]
    return _mean([-nats / math.log(2) / _bytes(one.item) for one, nats in scored]) if scored else None


def _bytes(item: Item) -> int:
    answer = item.choices[item.label] if item.choices else item.answers[0]
    return max(1, len((answer + item.after).encode()))


# --- of each item ---


def _accuracy(answer: Answer) -> float:
    return float(answer.chosen == answer.item.label) if answer.item.choices else float(answer.greedy)


def _accuracy_by_length(answer: Answer) -> float:
    """By nats for each character of a choice, so that short ones have no advantage."""
    lengths = [max(1, len(choice)) for choice in answer.item.choices]
    return float(np.argmax(np.array(answer.scores) / lengths) == answer.item.label)


def _exact(answer: Answer, metric: Metric) -> float:
    def plain(text: str) -> str:
        text = text.lower() if metric.ignore_case else text
        return text.translate(str.maketrans("", "", string.punctuation)) if metric.ignore_punctuation else text

    return float(any(plain(answer.text.strip()) == plain(wanted.strip()) for wanted in answer.item.answers))


def _chosen_or_written(answer: Answer) -> str:
    return answer.item.choices[answer.chosen] if answer.item.choices else answer.text


def _span_f1(answer: Answer) -> float:
    return answer_scores(_chosen_or_written(answer), answer.item.answers)[1]


def _span_exact(answer: Answer) -> float:
    return answer_scores(_chosen_or_written(answer), answer.item.answers)[0]


EACH: dict[str, Callable[[Answer], float]] = {
    "acc": _accuracy,
    "acc_norm": _accuracy_by_length,
    "span_f1": _span_f1,
    "span_em": _span_exact,
}


# --- of groups: a question of MultiRC with all its answers ---


def _all_right(group: Sequence[Answer]) -> float:
    return float(all(answer.chosen == answer.item.label for answer in group))


GROUPED: dict[str, Callable[[Sequence[Answer]], float]] = {"group_em": _all_right}


# --- of whole texts ---


def _per(answers: Sequence[Answer], count: Callable[[str], int]) -> float:
    """Nats lost for each unit of the texts."""
    nats = -sum(answer.scores[0] for answer in answers)
    return nats / max(1, sum(count(answer.item.answers[0]) for answer in answers))


ROLLING: dict[str, Callable[[Sequence[Answer]], float]] = {
    "bits_per_byte": lambda answers: _per(answers, lambda text: len(text.encode())) / math.log(2),
    "byte_perplexity": lambda answers: math.exp(_per(answers, lambda text: len(text.encode()))),
    "word_perplexity": lambda answers: math.exp(_per(answers, lambda text: len(re.split(r"\s+", text)))),
}


# --- over all items ---


OverAll = Callable[[np.ndarray, np.ndarray], float]  # of what was chosen and what is true
OVER_ALL: dict[str, OverAll] = {"f1": partial(f1, label=1), "macro_f1": macro_f1, "mcc": matthews}

BY_OUTPUT = {
    "multiple_choice": (*EACH, *GROUPED, *OVER_ALL),
    "loglikelihood": ("acc", "perplexity"),
    "loglikelihood_rolling": tuple(ROLLING),
    "generate_until": ("exact_match", "span_f1", "span_em"),
}
