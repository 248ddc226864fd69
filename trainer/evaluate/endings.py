"""One text for all families: the ends of held-out passages, scored by models of every family and by counting.

What is scored are the same tokens for all, so that one unit serves: nats a token. What a model knows of a token differs
by its family. A decoder and an encoder-decoder write the end behind the beginning, which is a likelihood; an encoder
reads what follows a token too, which is a pseudo-likelihood and easier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trainer.data import Prepared
from trainer.data.shards import TokenStream
from trainer.evaluate.passages import SHARE, held_out_passages
from trainer.evaluate.scoring import Encoded, has_measure, score_encoded
from trainer.generation.loaded_model import Trained

MOST_TOKENS = 1 << 24  # of the training text that are counted
BIGRAM_WEIGHT = 0.9  # of the pair's frequency; the rest is the single token's (Jelinek and Mercer 1980)


def endings(trained: Trained, prepared: Prepared) -> list[Encoded]:
    """(ids of a beginning, ids of the last quarter that follows it) of held-out passages, without special tokens."""
    passages = [one for some in held_out_passages(trained, prepared).values() for one in some]
    return [(one[: len(one) - len(one) // SHARE], one[len(one) - len(one) // SHARE :]) for one in passages]


def score_endings(trained: Trained, pairs: Sequence[Encoded]) -> float | None:
    """Nats a token of these ends; None where the model has no measure of a text, or there are no tokens."""
    if not has_measure(trained) or not (tokens := sum(len(end) for _, end in pairs)):
        return None
    return -sum(one.nats for one in score_encoded(trained, pairs)) / tokens


def count_endings(prepared: Prepared, pairs: Sequence[Encoded]) -> dict[str, float]:
    """Nats a token of the same ends by models that count the training text: `uniform` (every token as likely, as an
    untrained model has it), `unigram` (a token's frequency), `bigram` (its frequency behind the one before, and
    the unigram's). A token is counted once more than it was seen."""
    stream, vocabulary = TokenStream(prepared, "train"), prepared.vocabulary
    text = stream.stretches(np.zeros(1, np.int64), np.array([min(len(stream), MOST_TOKENS)]))
    single = np.bincount(text, minlength=vocabulary) + 1.0
    keys, seen = np.unique(text[:-1] * vocabulary + text[1:], return_counts=True)
    before, after = (np.concatenate([part(pair) for pair in pairs]) for part in (_before, _end))
    alone = single[after] / single.sum()
    wanted = before * vocabulary + after
    found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    together = (
        np.where(keys[found] == wanted, seen[found], 0) / np.bincount(text[:-1], minlength=vocabulary).clip(1)[before]
    )
    mixed = BIGRAM_WEIGHT * together + (1 - BIGRAM_WEIGHT) * alone
    return {
        "uniform": math.log(vocabulary),
        "unigram": float(-np.log(alone).mean()),
        "bigram": float(-np.log(mixed).mean()),
    }


def _before(pair: Encoded) -> np.ndarray:
    """int64: the token in front of each token of an end."""
    return np.array([*pair[0][-1:], *pair[1][:-1]], np.int64)


def _end(pair: Encoded) -> np.ndarray:
    return np.array(pair[1], np.int64)
