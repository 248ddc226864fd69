"""Metrics of the field, over whole held-out splits. All are shares in [0, 1] but Matthews', which is in [-1, 1]."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

Z95 = 1.959964  # standard deviations to each side that hold 95 % of a normal distribution


def accuracy(predicted: np.ndarray, true: np.ndarray) -> float:
    """Share that is right."""
    return float((predicted == true).mean())


def f1(predicted: np.ndarray, true: np.ndarray, label: int) -> float:
    """Harmonic mean of precision and recall of one class; 0 where it is neither predicted nor there."""
    hits = float(((predicted == label) & (true == label)).sum())
    said = float((predicted == label).sum() + (true == label).sum())
    return 2 * hits / said if said else 0.0


def macro_f1(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean F1 of all classes that are predicted or there."""
    return float(np.mean([f1(predicted, true, int(label)) for label in np.union1d(predicted, true)]))


def matthews(predicted: np.ndarray, true: np.ndarray) -> float:
    """Matthews' correlation, for two or more classes (Matthews 1975; Gorodkin 2004); 0 where one side is constant."""
    classes = np.union1d(predicted, true)
    said = np.array([(predicted == label).sum() for label in classes], float)
    there = np.array([(true == label).sum() for label in classes], float)
    n, hits = float(len(true)), float((predicted == true).sum())
    spread = math.sqrt((n * n - said @ said) * (n * n - there @ there))
    return float((n * hits - said @ there) / spread) if spread else 0.0


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of n trials (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return middle - half, middle + half


def standard_error(values: np.ndarray) -> float | None:
    """Of the mean: sample standard deviation / sqrt(n); null for a single value."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of a mean, by its standard error."""
    error = standard_error(values)
    half = math.inf if error is None else Z95 * error
    return float(values.mean()) - half, float(values.mean()) + half


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """(begin, end, type) of what IOB2 tags mark; an I- that continues nothing begins something (CoNLL's scorer)."""
    found, begin, kind = set(), 0, ""
    for place, tag in enumerate([*tags, "O"]):
        mark, _, of = tag.partition("-")
        goes_on = mark == "I" and of == kind
        if kind and not goes_on:
            found.add((begin, place, kind))
            kind = ""
        if mark in ("B", "I") and not goes_on:
            begin, kind = place, of
    return found


def entity_f1(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> float:
    """F1 over whole entities of all sentences (Tjong Kim Sang and De Meulder 2003)."""
    pairs = [(entities(said), entities(there)) for said, there in zip(predicted, true, strict=True)]
    total = sum(len(said) + len(there) for said, there in pairs)
    return 2 * sum(len(said & there) for said, there in pairs) / total if total else 0.0


def normalized(answer: str) -> str:
    """Lower case without punctuation, articles and superfluous spaces (Rajpurkar et al. 2016, section 6.1)."""
    plain = "".join(character for character in answer.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def answer_scores(predicted: str, accepted: Sequence[str]) -> tuple[float, float]:
    """(exact match, token F1) against the best of the accepted answers; no accepted answer: nothing is right."""
    pairs = [_overlap(normalized(predicted), normalized(one)) for one in accepted or [""]]
    return max(match for match, _ in pairs), max(overlap for _, overlap in pairs)


def _overlap(predicted: str, true: str) -> tuple[float, float]:
    said, there = predicted.split(), true.split()
    if not said or not there:
        return float(said == there), float(said == there)
    common = sum((Counter(said) & Counter(there)).values())
    return float(predicted == true), 2 * common / (len(said) + len(there))


def text_scores(predicted: Sequence[str], true: Sequence[str]) -> dict[str, float]:
    """chrF over the corpus (Popovic 2015) and mean ROUGE-L (Lin 2004, F measure, without stemming).

    Needs the extra `metrics`, see `missing_packages`.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import CHRF

    scorer = RougeScorer(["rougeL"])
    rouge = [scorer.score(there, said)["rougeL"].fmeasure for said, there in zip(predicted, true, strict=True)]
    return {
        "chrf": CHRF().corpus_score(list(predicted), [list(true)]).score / 100,
        "rouge_l": float(np.mean(rouge)),
    }


def missing_packages() -> list[str]:
    """Of those that `text_scores` needs."""
    return [name for name in ("sacrebleu", "rouge_score") if find_spec(name) is None]
