"""The largest model that a budget trains: one size more and it does not."""

from __future__ import annotations

import json

import pytest

from trainer.books import plan
from trainer.books.largest import largest, size_of
from trainer.books.run_length import run_tokens
from trainer.cli.main import main
from trainer.compose import compose
from trainer.utils.errors import UserError

RUN = ["model=llama-7b", "machine=a100-sxm-80gb", "data.sequence_length=1024", "budget.tokens=1b"]


@pytest.mark.parametrize("budget", ["budget.hours=2", "budget.kwh=1"])
def test_it_fits_and_a_tenth_more_does_not(budget: str) -> None:
    key, most = ("time.wall", 2 * 3600.0) if "hours" in budget else ("energy.device_kwh", 1.0)
    found = largest(compose([*RUN, budget]))
    costs = []
    for size in (size_of(found), round(1.15 * size_of(found))):
        figure = plan(compose([*RUN, f"model.size={size}"]))[key].planned
        assert figure is not None and figure.value is not None
        costs.append(figure.value)
    assert costs[0] <= most < costs[1]


def test_memory_alone_can_be_the_limit() -> None:
    found = largest(compose([*RUN, "engine.micro_batch=1"]))
    assert 1e9 < size_of(found) < 10e9  # fp32 weights, gradients and two moments: 16 bytes a parameter


FLOPS = ["model=llama-7b", "tokenizer.vocabulary=32000", "data.sequence_length=2048", "optim.batch_size=64"]


@pytest.mark.parametrize(
    ("flop", "size"), [("1.92e19", 400e6), ("1.21e20", 1e9), ("1.23e22", 10e9), ("5.76e23", 67e9), ("3.85e24", 175e9)]
)
def test_flops_alone_go_where_chinchilla_put_them(flop: str, size: float) -> None:
    """Hoffmann et al. 2022, table 3 (6 N D there; the exact count has attention too, a tenth at the small end)."""
    words = [*FLOPS, f"budget.flop={flop}"]
    found = largest(compose(words))
    assert size_of(found) == pytest.approx(size, rel=0.1)
    larger = compose([*words, f"model.size={round(1.1 * size_of(found))}"])
    assert run_tokens(larger) / size_of(larger) < 20 <= run_tokens(found) / size_of(found) < 22


def test_fewer_tokens_a_parameter_leave_more_parameters_that_must_fit() -> None:
    words = [*FLOPS, "budget.flop=1e22"]
    sizes = [size_of(largest(compose(words), ratio)) for ratio in (80, 20, 5)]
    assert sizes[0] < 0.6 * sizes[1] < 0.36 * sizes[2]
    card = [*words, "machine=a100-sxm-80gb", "engine.micro_batch=1"]
    assert size_of(largest(compose(card))) < sizes[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["budget.hours=1"], "state the run's length"),
        (["budget.steps=10"], "state what limits the run"),
        ([*RUN, "budget.hours=1e-6"], "no size of llama-7b fits"),
        (["budget.flop=1e13", "tokenizer.vocabulary=32000"], "no size of llama-mini fits"),
    ],
)
def test_nothing_to_search_by(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        largest(compose(words))


def test_tokens_a_parameter_are_asked_of_flops_alone() -> None:
    with pytest.raises(UserError, match="leaves the tokens open"):
        largest(compose([*RUN, "budget.hours=2"]), 20)


def test_the_verb_gives_the_size_as_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*FLOPS, "budget.flop=1e20"]
    assert main(["plan", "--largest", "--json", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    *given, size = told["overrides"]
    assert given == words
    assert plan(compose([*words, size])).to_json()["planned"]["model"] == told["planned"]["model"]
    assert main(["plan", "--largest", "-m", *FLOPS, "budget.flop=1e20,1e21"]) == 0
    assert size in capsys.readouterr().out
