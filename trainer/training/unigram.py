"""The yardstick of held-out losses: a model without context, which knows how frequent each target is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trainer.config import Config
from trainer.data import Examples
from trainer.models import NOT_A_TARGET
from trainer.training.dataset import Source, text_of

MOST_POSITIONS = 1 << 24  # of held-out samples that frequencies are counted in
ROWS = 64  # of a block of samples, which is counted or left out


class Unigram:
    """Predicts every target with its frequency among all held-out targets.

    Its loss is taken over the very targets that a model's loss is taken over, so that both read the same text. Over
    all of them it is the entropy of their frequencies.
    """

    def __init__(self, counts: np.ndarray) -> None:
        """counts: int64 [vocabulary], how often each token is a target; what was not seen counts as seen once."""
        self._nats = np.log(max(1, counts.sum())) - np.log(np.maximum(counts, 1))

    def nats(self, targets: np.ndarray) -> float:
        """Sum of the negative log-probabilities of those targets that are not NOT_A_TARGET."""
        return float(self._nats[targets[targets != NOT_A_TARGET]].sum())


def unigram_of(source: Source, config: Config, splits: Iterable[Examples]) -> Unigram | None:
    """The yardstick of these held-out samples; None where the loss has other terms than the cross-entropy of targets
    (a sentence head, a discriminator), and for tasks."""
    how = config.objective.description
    sentences = config.model.sentence_head and how.labels_pairs(config.objective)
    if text_of(source) is None or how.generator or sentences:
        return None
    return Unigram(target_counts(list(splits), config.vocabulary, config.data.sequence_length))


def target_counts(splits: list[Examples], vocabulary: int, sequence_length: int) -> np.ndarray:
    """int64 [vocabulary]: how often each token is a target of these samples, or, where they have more than
    MOST_POSITIONS, of blocks that are spread evenly over them."""
    counts = np.zeros(vocabulary, np.int64)
    every = max(1, -(-sum(map(len, splits)) * sequence_length // MOST_POSITIONS))
    for samples in splits:
        for first in range(0, len(samples), ROWS * every):
            targets = samples.batch(first, min(first + ROWS, len(samples)))["targets"]
            counts += np.bincount(targets[targets != NOT_A_TARGET], minlength=vocabulary)
    return counts
