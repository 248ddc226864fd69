"""The largest model that a budget trains: one size more and it does not."""

from __future__ import annotations

import pytest

from trainer.books import plan
from trainer.books.largest import largest, size_of
from trainer.compose import compose
from trainer.errors import UserError

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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["budget.hours=1"], "state the run's length"),
        (["budget.steps=10"], "state what limits the run"),
        ([*RUN, "budget.hours=1e-6"], "no size of llama-7b fits"),
    ],
)
def test_nothing_to_search_by(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        largest(compose(words))
