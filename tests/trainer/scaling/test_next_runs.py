"""Which runs to make next."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainer.books.branch import KEYS, SHARES
from trainer.scaling.fit.table import Run, Table
from trainer.scaling.next_runs import format_next, next_json, next_runs
from trainer.scaling.next_runs.candidates import Candidate, candidates, started_with, words_of
from trainer.scaling.next_runs.design import choose
from trainer.utils.errors import UserError

TRUTH = (1.7, 400.0, 1500.0, 0.34, 0.3)


def loss_of(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    e, a, b, alpha, beta = TRUTH
    return e + a / n**alpha + b / d**beta


def made(noise: float = 0.002, seed: int = 0) -> Table:
    random = np.random.default_rng(seed)
    runs = []
    for n in (1e6, 3e6, 1e7, 3e7):
        for d in (2e7, 8e7, 3.2e8):
            loss = float(loss_of(np.array(n), np.array(d)) * np.exp(noise * random.standard_normal()))
            runs.append(Run(f"{n:g}-{d:g}", n, d, 6 * n * d, loss, kwh=1e-18 * 6 * n * d, seed=0))
    return Table(tuple(runs), "all", "6 N D")


def test_a_choice_is_that_of_conditional_normal_distributions() -> None:
    """Against the textbook's formula over all runs at once, and against trying every pair."""
    random = np.random.default_rng(1)
    draws = random.standard_normal((500, 6)) @ random.standard_normal((6, 6))
    answers, shown = draws[:, :1], draws[:, 1:]
    noise = np.full(5, 0.7)
    covariance = np.cov(draws, rowvar=False)

    def left(pair: tuple[int, ...]) -> float:
        rows = 1 + np.array(pair)
        some = covariance[np.ix_(rows, rows)] + np.diag(noise[np.array(pair)] ** 2)
        return float(np.sqrt(covariance[0, 0] - covariance[0, rows] @ np.linalg.solve(some, covariance[rows, 0])))

    chosen = choose(answers, shown, np.ones(5), noise, 2, 10.0)
    pair = tuple(one.candidate for one in chosen)
    if pair[0] != pair[1]:
        assert chosen[-1].spread == pytest.approx(left(pair), rel=1e-9)
    assert chosen[0].spread == pytest.approx(min(left((one,)) for one in range(5)), rel=1e-9)


def test_a_dear_run_is_left_where_the_budget_does_not_reach() -> None:
    random = np.random.default_rng(2)
    answers = random.standard_normal((400, 1))
    shown = np.concatenate([answers, 0.5 * answers + random.standard_normal((400, 1))], axis=1)
    prices, noise = np.array([10.0, 1.0]), np.full(2, 0.1)
    assert [one.candidate for one in choose(answers, shown, prices, noise, 1, 20.0)] == [0]
    assert [one.candidate for one in choose(answers, shown, prices, noise, 3, 3.0)] == [1, 1, 1]
    assert choose(answers, shown, prices, noise, 3, 0.5) == []


def test_the_proposed_runs_narrow_the_answer_as_promised() -> None:
    """Made by the truth and added, they bring the answer nearer to it, and its interval to about what was told."""
    question, table = "loss of 300m@5b", made()
    truth = float(loss_of(np.array(3e8), np.array(5e9)))
    found = next_runs(table, Path("none"), 3, question, within="1e18")
    assert found.before.low < truth < found.before.high
    assert 0 < sum(one.price for one in found.runs) <= 1e18
    widths = [found.before.high - found.before.low, *(one.after.high - one.after.low for one in found.runs)]
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.8 * widths[0]
    random = np.random.default_rng(5)
    more = [
        Run(f"new{k}", one.candidate.parameters, one.candidate.tokens, one.price, float(loss), seed=1)
        for k, one in enumerate(found.runs)
        for loss in [
            loss_of(np.array(one.candidate.parameters), np.array(one.candidate.tokens))
            * np.exp(0.002 * random.standard_normal())
        ]
    ]
    again = next_runs(Table((*table.runs, *more), "all", "6 N D"), Path("none"), 1, question)
    assert again.before.high - again.before.low < 0.8 * widths[0]
    assert again.before.low < truth < again.before.high


@pytest.mark.parametrize("question", ["loss for 1e19", "size for 2 kWh", "exponent"])
def test_every_kind_of_question_has_an_answer_in_words(question: str) -> None:
    table = made()
    found = next_runs(table, Path("none"), 2, question, within="0.5kWh")
    text, facts = format_next(found), next_json(found)
    assert text.startswith(question.lower()) and "isoflop sweep model.size=" in text
    assert facts["axis"] == "kwh" and len(facts["runs"]) == 2
    if question == "exponent":  # b / (a + b) of the exponents
        assert facts["answer"]["low"] < TRUTH[4] / (TRUTH[3] + TRUTH[4]) < facts["answer"]["high"]
    json.dumps(facts)


@pytest.mark.parametrize(
    ("question", "within", "said"),
    [
        ("how good", "", "loss of <parameters>@<tokens>"),
        ("loss of 0@5b", "", "wanted"),
        ("loss of 1e300@5b", "", "wanted"),
        ("loss of 1b@1b", "1", "cheapest run"),
        ("loss of 1b@1b", "5 kilo", "within:"),
        ("size for 5g", "", "no two of the runs state their gco2e"),
    ],
)
def test_what_cannot_be_asked_is_told(question: str, within: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        next_runs(made(), Path("none"), 1, question, within)
    assert "\n" not in str(caught.value)


def test_runs_of_one_size_are_asked_further_by_the_laws_that_are_finite() -> None:
    table = made()
    table = replace(table, runs=tuple(run for run in table.runs if run.parameters == 1e7))
    found = next_runs(table, Path("none"), 1, "loss of 1b@20b")
    assert found.runs and found.runs[-1].after.high < found.before.high < math.inf


@pytest.mark.parametrize(
    ("instead", "said"),
    [({"loss": -1.0}, "are negative"), ({"tokens": math.nan}, "neither tokens"), ({"loss": math.nan}, "no loss")],
)
def test_tables_that_no_question_is_about_are_told(instead: dict[str, float], said: str) -> None:
    table = replace(made(), runs=tuple(replace(run, **instead) for run in made().runs))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        next_runs(table, Path("none"), 1, "exponent")


def test_words_are_those_of_the_nearest_run(tmp_path: Path) -> None:
    table = made()
    pool = candidates(table, None)
    one = next(one for one in pool if one.parameters == 3e6 and one.tokens == 8e7)
    assert one.seed == 1  # its seed 0 is there
    folder = tmp_path / one.like.name
    folder.mkdir()
    words = [
        "model=llama-mini",
        "model.width=48",
        "model.ffn_width=96",
        "budget.steps=9",
        "seed=0",
        "run.id=x",
        "optim.lr=0.01",
    ]
    (folder / "overrides.json").write_text(json.dumps([{"time": 0, "overrides": words}]))
    told = ["budget.tokens=80000000", "seed=1"]
    shape = ["model.width=48", "model.ffn_width=96"]
    assert words_of(one, tmp_path, True) == ["model=llama-mini", *shape, "optim.lr=0.01", *told]
    assert words_of(one, tmp_path, False) == ["model=llama-mini", "optim.lr=0.01", "model.size=3000000", *told]


def test_words_of_a_branch_are_its_trunks_and_its_own(tmp_path: Path) -> None:
    trunk, branch = tmp_path / "e" / "a-trunk", tmp_path / "e" / "a-h8"
    for folder, words in (
        (trunk, ["model=llama-mini", "optim.schedule=constant", "budget.steps=9", "run.id=a-trunk"]),
        (branch, ["branch=runs/e/a-trunk@6", "optim.decay={shape:linear,steps:2}", "run.id=a-h8"]),
    ):
        folder.mkdir(parents=True)
        (folder / "overrides.json").write_text(json.dumps([{"time": 0, "overrides": words}]))
    said = dict.fromkeys((*KEYS, *SHARES), 0) | {"run": "e/a-trunk", "path": "/elsewhere/e/a-trunk"}
    (branch / "branch.json").write_text(json.dumps(said))
    one = Candidate(3e6, 8e7, 0, Run("e/a-h8", 3e6, 8e7, 1e15, 3.0))
    told = ["model=llama-mini", "optim.schedule=constant", "optim.decay={shape:linear,steps:2}"]
    assert words_of(one, tmp_path, True) == [*told, "budget.tokens=80000000", "seed=0"]
    (trunk / "overrides.json").unlink()
    assert started_with(branch) == []
