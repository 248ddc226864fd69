"""Mixing rates are the paper's, in exact fractions (Raffel et al. 2020, section 3.5.2)."""

from __future__ import annotations

from fractions import Fraction

import pytest

from trainer.config import DataConfig
from trainer.tasks.rates import example_rates, sample_shares

SIZES = {"text": 5_000_000, "cola": 8_551, "mnli": 392_702, "wmt": 4_500_000}


def data(**mixing: object) -> DataConfig:
    own = {name: mixing.pop(name) for name in ("cola", "mnli", "wmt") if name in mixing}
    tasks = {name: {"train": ["x"], **own.get(name, {})} for name in ("cola", "mnli", "wmt")}
    return DataConfig.model_validate({"tasks": tasks, "mixing": mixing})


@pytest.mark.parametrize("limit", [None, 1, 1 << 16, 1 << 19, 1 << 21])
def test_in_proportion_to_the_examples_up_to_a_limit(limit: int | None) -> None:
    """r_m = min(e_m, K) / sum of min(e_n, K)."""
    capped = {name: min(size, limit or size) for name, size in SIZES.items()}
    wanted = {name: Fraction(size, sum(capped.values())) for name, size in capped.items()}
    assert example_rates(data(limit=limit), SIZES) == wanted


def test_the_limit_is_the_papers_unless_stated() -> None:
    assert example_rates(data(), SIZES) == example_rates(data(limit=2**19), SIZES)


@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_temperature_takes_a_root_of_the_rates_and_divides_by_their_sum(temperature: float) -> None:
    rates = example_rates(data(limit=2**21), SIZES)
    roots = {name: float(rate) ** (1 / temperature) for name, rate in rates.items()}
    found = example_rates(data(limit=2**21, temperature=temperature), SIZES)
    assert sum(found.values()) == 1
    assert {n: float(r) for n, r in found.items()} == pytest.approx(
        {n: r / sum(roots.values()) for n, r in roots.items()}
    )


def test_equal_and_nearly_equal() -> None:
    assert set(example_rates(data(rate="equal"), SIZES).values()) == {Fraction(1, 4)}
    nearly = example_rates(data(temperature=1000.0), SIZES)
    assert max(nearly.values()) < 1.01 * min(nearly.values())


def test_a_task_may_state_what_it_counts_as() -> None:
    found = example_rates(
        data(limit=None, wmt={"limit": 1_000_000}, cola={"examples": 100_000}, text_examples=7), SIZES
    )
    total = 7 + 100_000 + 392_702 + 1_000_000
    assert list(found.values()) == [Fraction(n, total) for n in (7, 100_000, 392_702, 1_000_000)]


def test_samples_that_hold_several_examples_are_so_much_rarer() -> None:
    """Of the examples that are read, each task has its rate."""
    rows = {"text": 5_000_000, "cola": 950, "mnli": 130_901, "wmt": 4_500_000}
    shares = sample_shares(data(), SIZES, rows)
    read = {name: share * Fraction(SIZES[name], rows[name]) for name, share in shares.items()}
    assert sum(shares.values()) == 1
    assert {name: one / sum(read.values()) for name, one in read.items()} == example_rates(data(), SIZES)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_share_of_text_leaves_the_rest_to_the_tasks(share: float) -> None:
    shares, alone = sample_shares(data(text_share=share), SIZES, SIZES), example_rates(data(), SIZES)
    assert shares["text"] == Fraction(str(share))
    assert shares["cola"] / shares["mnli"] == alone["cola"] / alone["mnli"] and sum(shares.values()) == 1
