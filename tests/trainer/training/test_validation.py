"""Held-out loss and its yardstick are of the same targets."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trainer.compose import compose
from trainer.config import Config
from trainer.models import NOT_A_TARGET
from trainer.trackers.records import EvaluationRecord
from trainer.training import unigram
from trainer.training.dataset import examples, prepare
from trainer.training.distributed import World
from trainer.training.validation import Validation

OF_FAMILY = {
    "causal": ["model=llama-mini"],
    "masked_lm": ["model=bert-mini", "objective=masked_lm", "model.sentence_head=false", "model.pooler=none"],
    "span_corruption": ["model=t5-mini", "objective=span_corruption"],
}


@pytest.fixture(scope="module")
def make_config(corpus: Path, cache: Path) -> Callable[..., Config]:
    def make(*words: str) -> Config:
        small = [f"data.path={corpus}", f"run.cache={cache}", "data.sequence_length=32", "data.held_out=0.3"]
        return compose(["data=text", *small, "tokenizer.vocabulary=420", "optim.batch_size=4", *words])

    return make


def targets_of(batch: dict[str, np.ndarray]) -> list[int]:
    return [token for row in batch["targets"].tolist() for token in row if token != NOT_A_TARGET]


def frequencies(config: Config) -> dict[int, float]:
    """Of every target of the held-out samples, counted one by one."""
    samples = examples(prepare(config), config, "held_out")
    counted = Counter(
        token for number in range(len(samples)) for token in targets_of(samples.batch(number, number + 1))
    )
    return {token: count / counted.total() for token, count in counted.items()}


class Engine:
    """A model that predicts each target with its frequency, and reads no context."""

    def __init__(self, frequency: dict[int, float]) -> None:
        self.frequency = frequency
        self.averages = SimpleNamespace(names=[])

    @contextlib.contextmanager
    def evaluation(self, average: str | None = None) -> Iterator[Callable[..., Any]]:
        yield self.forward

    def forward(self, batch: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        nats = [-math.log(self.frequency[token]) for token in targets_of(batch)]
        return torch.tensor(sum(nats), dtype=torch.float64), torch.tensor(len(nats))


def measured(config: Config, engine: Any) -> EvaluationRecord:
    return Validation(config, prepare(config), World(0, 1, 0, torch.device("cpu"))).measure(engine, 1, 0)


@pytest.mark.parametrize("samples", [3, 16, None])
@pytest.mark.parametrize("objective", OF_FAMILY)
def test_a_unigram_model_lies_0_percent_below_the_yardstick(make_config, objective, samples) -> None:
    config = make_config(*OF_FAMILY[objective], *([f"evaluation.samples={samples}"] if samples else []))
    record = measured(config, Engine(frequencies(config)))
    assert record.targets > 0 and record.unigram_loss == pytest.approx(record.loss, rel=1e-12)
    assert record.below_unigram == pytest.approx(0, abs=1e-12)
    if objective == "causal":
        assert record.bits_per_byte == pytest.approx(record.unigram_bits_per_byte, rel=1e-12)
    else:
        assert record.bits_per_byte is None and record.unigram_bits_per_byte is None


def test_over_all_held_out_text_it_is_the_entropy_that_the_corpus_states(make_config) -> None:
    config = make_config()
    prepared: Any = prepare(config)
    record = Validation(config, prepared, World(0, 1, 0, torch.device("cpu"))).measure(
        Engine(frequencies(config)), 1, 0
    )
    assert record.unigram_bits_per_byte == pytest.approx(prepared.held_out.unigram_bits_per_byte, rel=1e-9)


def test_ranks_add_up_to_one(make_config) -> None:
    config = make_config("evaluation.samples=10")
    engine: Any = Engine(frequencies(config))
    alone = measured(config, engine)
    heard: list[list[float]] = []
    for rank in range(3):
        world: Any = SimpleNamespace(rank=rank, size=3, sum=lambda *values: heard.append(list(values)) or list(values))
        Validation(config, prepare(config), world).measure(engine, 1, 0)
    nats, targets, unigram_nats = (sum(column) for column in zip(*heard, strict=True))
    assert targets == alone.targets
    assert (nats / targets, unigram_nats / targets) == pytest.approx((alone.loss, alone.unigram_loss), rel=1e-12)


def test_a_loss_with_other_terms_has_no_yardstick(make_config) -> None:
    """ELECTRA's has that of the discriminator, BERT's and ALBERT's that of the sentences."""
    for words in (["model=electra-mini", "objective=replaced_token"], ["model=bert-mini", "objective=bert"]):
        config = make_config(*words)
        assert unigram.unigram_of(prepare(config), config, [examples(prepare(config), config, "held_out")]) is None


def test_frequencies_of_very_much_text_are_counted_in_a_part_of_it(make_config, monkeypatch) -> None:
    config = make_config("evaluation.samples=10")
    samples = examples(prepare(config), config, "held_out")
    whole = unigram.target_counts([samples], config.vocabulary, 32)
    monkeypatch.setattr(unigram, "ROWS", 2)
    monkeypatch.setattr(unigram, "MOST_POSITIONS", len(samples) * 32 // 4)
    part = unigram.target_counts([samples], config.vocabulary, 32)
    assert 0.15 < part.sum() / whole.sum() < 0.35 and np.all(part <= whole)
    rare = unigram.Unigram(np.array([8, 0]))
    assert rare.nats(np.array([0])) == 0 and rare.nats(np.array([1, NOT_A_TARGET])) == pytest.approx(math.log(8))
