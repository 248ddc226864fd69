"""The same endings for all families: which tokens they are, and what counting makes of them."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from trainer.compose import compose
from trainer.data import Prepared, prepare
from trainer.data.shards import TokenStream
from trainer.evaluate.endings import count_endings, endings, score_endings
from trainer.generation.loaded_model import Trained


@pytest.fixture(scope="module")
def prepared(tiny: list[str]) -> Prepared:
    return prepare(compose(tiny))


def test_counting_is_what_a_counter_finds(prepared: Prepared) -> None:
    stream = TokenStream(prepared, "train")
    text = stream.stretches(np.zeros(1, np.int64), np.array([len(stream)])).tolist()
    alone, pairs, first = Counter(text), Counter(pairwise(text)), Counter(text[:-1])
    head, end = text[:20], [*text[20:24], prepared.vocabulary - 1]
    total, size = len(text), prepared.vocabulary

    def unigram(token: int) -> float:
        return (alone[token] + 1) / (total + size)

    steps = list(zip([head[-1], *end[:-1]], end, strict=True))
    mixed = [0.9 * pairs[step] / max(1, first[step[0]]) + 0.1 * unigram(step[1]) for step in steps]
    found = count_endings(prepared, [(head, end)])
    assert found["uniform"] == pytest.approx(math.log(size))
    assert found["unigram"] == pytest.approx(-sum(math.log(unigram(token)) for token in end) / len(end))
    assert found["bigram"] == pytest.approx(-sum(map(math.log, mixed)) / len(end))


def test_a_decoders_score_is_its_cross_entropy(untrained) -> None:
    trained = Trained.load(untrained())
    head, end = [20, 30, 40], [50, 60]
    row = torch.tensor([[trained.special("<s>"), *head, *end]])
    with torch.no_grad():
        logits = trained.model.logits(row[:, :-1])[0, -2:, : trained.tokenizer.vocabulary].float()
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor(end))
    assert score_endings(trained, [(head, end)]) == pytest.approx(float(wanted), rel=1e-4)
    assert score_endings(trained, []) is None


def test_all_families_are_asked_for_the_same_tokens(untrained, prepared: Prepared) -> None:
    asked = [endings(Trained.load(untrained(name)), prepared) for name in ("causal", "masked_lm", "bart")]
    assert asked[0] and asked[0] == asked[1] == asked[2]
    assert all(len(end) == (len(head) + len(end)) // 4 for head, end in asked[0])
