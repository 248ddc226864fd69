"""The rates of dropout: what a key may be, what `paper` means, and what is part of an experiment's identity."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.trainer.data.loading import fixed
from trainer.books import memory
from trainer.books.dropout import dropout_line
from trainer.compose import compose
from trainer.config import Config
from trainer.config.model import ModelConfig
from trainer.data.loader import StepLoader
from trainer.utils.errors import UserError

PAPER = {"dropout": "paper", "attention_dropout": "paper"}


def config(**model: Any) -> Config:
    return Config.model_validate({"model": model})


def test_identity_knows_the_rates_and_not_who_stated_them() -> None:
    plain = Config().science_hash()
    stated = {"paper_dropout": 0.1, "paper_attention_dropout": 0.2}
    assert config(**stated).science_hash() == config(dropout_inside=True).science_hash() == plain
    assert config(**PAPER).science_hash() == plain
    asked = config(dropout=0.1, attention_dropout=0.2)
    assert config(**stated, **PAPER).science_hash() == asked.science_hash()
    assert config(**stated, **PAPER).science() == asked.science()
    others = [config(dropout=0.1), config(attention_dropout=0.1), config(dropout=0.1, dropout_inside=True), asked]
    assert len({plain, *(one.science_hash() for one in others)}) == 5


@pytest.mark.parametrize(
    "preset,rates",
    [
        ("gpt2-124m", (0.1, 0.1)),
        ("bert-base", (0.1, 0.1)),
        ("albert-base", (0.1, 0.1)),
        ("albert-xxlarge", (0.0, 0.0)),
        ("t5-small", (0.1, 0.1)),
        ("mbart-large-cc25", (0.1, 0.0)),
        ("pythia-70m", (0.0, 0.0)),
        ("opt-125m", (0.1, 0.1)),
        ("xlm-mlm-ende-1024", (0.1, 0.1)),
        ("llama2-7b", (None, None)),
        ("gpt3-125m", (None, None)),
    ],
)
def test_presets_state_their_papers_rates_and_drop_nothing(
    preset: str, rates: tuple[float | None, float | None]
) -> None:
    model = compose([f"model={preset}", "objective=bert"] if "bert" in preset and preset != "mbart-large-cc25" else
                    [f"model={preset}", "objective=span_corruption"] if preset.startswith(("t5", "mbart")) else
                    [f"model={preset}"]).model  # fmt: skip
    assert (model.paper_dropout, model.paper_attention_dropout) == rates
    assert not model.drops
    asked = model.model_copy(update=PAPER)
    assert (asked.hidden_rate, asked.attention_rate) == tuple(rate or 0.0 for rate in rates)


@pytest.mark.parametrize("value", [1.0, -0.1, "papr", True, None, float("nan"), 2])
@pytest.mark.parametrize("key", ["dropout", "attention_dropout"])
def test_what_is_no_rate_is_one_line(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"a number from 0 to below 1, or paper, wanted"):
        ModelConfig.model_validate({key: value})


def test_a_backend_without_it_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"kernels.attention: sdpa has no dropout .* 0.1; choose auto, triton or reference"
    ):
        compose(["model.attention_dropout=0.1", "kernels.attention=sdpa"])
    compose(["model.dropout=0.1", "kernels.attention=sdpa"])


def test_the_plan_says_what_is_dropped() -> None:
    stated = {"name": "mine", "paper_dropout": 0.1, "paper_attention_dropout": 0.0}
    assert dropout_line(Config()) is None
    assert dropout_line(config(dropout=0.2)) == "dropout 0.2, of attention 0"
    assert dropout_line(config(**stated)) == (
        "dropout 0, by choice: model.dropout=paper and model.attention_dropout=paper would be 0.1 and 0"
    )
    assert dropout_line(config(**stated, **PAPER)) == "dropout 0.1, of attention 0 (the paper's)"
    assert dropout_line(config(**stated | {"paper_dropout": 0.0}, **PAPER)) == "dropout 0, as in the paper"
    assert dropout_line(config(name="mine", **PAPER)) == (
        "dropout 0: model=mine states none of a paper; model.dropout=0.1 sets one"
    )


def test_hidden_dropout_keeps_nothing_and_that_of_attention_its_mask() -> None:
    """On a CPU: for each layer, head, query and key a byte. The probability before it is kept for nobody: what comes
    after it is multiplied with, and the softmax is differentiated by its numerators."""

    def needed(**model: Any) -> int:
        whole = {"model": model, "engine": {"device": "cpu", "precision": "fp32", "micro_batch": 4}}
        return memory(Config.model_validate({**whole, "kernels": {"attention": "reference"}})).activations

    shape = Config().model
    square = 4 * Config().data.sequence_length ** 2 * shape.heads * shape.depth
    assert needed(dropout=0.1) == needed()
    assert needed(attention_dropout=0.1) == needed() + square


def samples(rows: tuple[int, ...]) -> Any:
    def batch(start: int, stop: int) -> dict[str, np.ndarray]:
        return {"tokens": np.ones((stop - start, *rows, 3)), "targets": np.zeros(stop - start)}

    return SimpleNamespace(batch=batch, pad=0)


@pytest.mark.parametrize("rows", [(), (2,)])
def test_rows_have_the_same_numbers_in_every_layout(rows: tuple[int, ...]) -> None:
    whole = set()
    for ranks in (1, 2, 3):
        for micro in (1, 2, 4):
            seen = []
            for rank in range(ranks):
                loader = StepLoader(samples(rows), **fixed(7, micro), rank=rank, world_size=ranks, numbered=True)
                for one in loader.step(3):
                    assert one["samples"].shape == one["tokens"].shape[:-1]
                    blank = one["targets"] == -100
                    assert (one["samples"][blank] == -1).all()
                    seen += one["samples"][~blank].flatten().tolist()
            whole.add(tuple(seen))
    several = 2 if rows else 1
    assert whole == {tuple(range(21 * several, 28 * several))}
    plain = StepLoader(samples(rows), **fixed(7, 7), rank=0, world_size=1)
    assert "samples" not in plain.step(0)[0]
