"""What needs no pre-training: logistic regression over a bag of words, and the most frequent class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

WORDS = 5000  # of each text, the most frequent ones
DECAY = 1e-4


def words(text: str) -> list[str]:
    """Words and runs of other signs, in lower case."""
    return re.findall(r"\w+|[^\w\s]+", text.lower())


def bag_of_words(
    train: Sequence[Sequence[str]], labels: np.ndarray, held_out: Sequence[Sequence[str]], classes: int
) -> np.ndarray:
    """Predicted classes int64 [held-out records]. A record is one or several texts, each with words of its own.

    Multinomial logistic regression on 1 + log counts, rows of unit length, L2 penalty, by L-BFGS from zero: the
    problem is convex, so there is no seed.
    """
    vocabulary = _vocabulary(train)
    inputs, targets = _features(train, vocabulary), torch.from_numpy(labels)
    weight = torch.zeros(len(vocabulary) + 1, classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(torch.sparse.mm(inputs, weight), targets) + DECAY * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return torch.sparse.mm(_features(held_out, vocabulary), weight.detach()).argmax(dim=1).numpy()


def most_frequent(labels: np.ndarray, count: int) -> np.ndarray:
    """The most frequent training class, `count` times."""
    return np.full(count, np.bincount(labels).argmax())


def _vocabulary(records: Sequence[Sequence[str]]) -> dict[tuple[int, str], int]:
    counts = [Counter[str]() for _ in records[0]]
    for record in records:
        for counter, text in zip(counts, record, strict=True):
            counter.update(words(text))
    kept = [(field, word) for field, counter in enumerate(counts) for word, _ in counter.most_common(WORDS)]
    return {key: column for column, key in enumerate(kept)}


def _features(records: Sequence[Sequence[str]], vocabulary: dict[tuple[int, str], int]) -> torch.Tensor:
    """Sparse [records, words + 1]; the last column is the intercept's."""
    places, values = [], []
    for row, record in enumerate(records):
        counts = Counter(
            column
            for field, text in enumerate(record)
            for word in words(text)
            if (column := vocabulary.get((field, word))) is not None
        )
        scaled = {column: 1 + np.log(count) for column, count in counts.items()}
        norm = np.sqrt(sum(value**2 for value in scaled.values())) or 1.0
        for column, value in [*((c, v / norm) for c, v in scaled.items()), (len(vocabulary), 1.0)]:
            places.append((row, column))
            values.append(value)
    weights = torch.tensor(values, dtype=torch.float32)
    shape = (len(records), len(vocabulary) + 1)
    return torch.sparse_coo_tensor(torch.tensor(places).T, weights, shape, check_invariants=True)
