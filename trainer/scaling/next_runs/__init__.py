"""Which runs to make next: those that shrink the interval of a stated question most for their price."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.books.formatting import format_amount
from trainer.scaling.fit.advice import Budget, read_budget
from trainer.scaling.fit.resampling import Interval
from trainer.scaling.fit.table import Table
from trainer.scaling.fit.text import big, several
from trainer.scaling.forms import FORMS, Form
from trainer.scaling.next_runs.candidates import Candidate, candidates, started_with, words_of
from trainer.scaling.next_runs.design import choose
from trainer.scaling.next_runs.posterior import FARNESS, distance, draw_laws
from trainer.scaling.next_runs.question import GRAMMAR, Question, price_of, read_question
from trainer.utils.errors import UserError

__all__ = ["GRAMMAR", "NextRuns", "format_next", "next_json", "next_runs"]

FEWEST_RUNS = 3
FEWEST_DRAWS = 40  # of laws, by which an answer is told
TWO_SIDED = 1.96  # standard deviations of a 95% interval


@dataclass(frozen=True)
class NextRun:
    """A run that is proposed, what it takes, and the answer's interval once it is made."""

    candidate: Candidate
    price: float
    after: Interval
    words: tuple[str, ...]


@dataclass(frozen=True)
class NextRuns:
    """The answer as it stands, and the runs that would narrow it most for their price."""

    question: Question
    before: Interval
    noise: float  # standard deviation of log loss of one run
    runs: tuple[NextRun, ...]
    axis: str
    unit: str
    within: float
    without_words: tuple[str, ...] = ()  # runs whose settings are taken over, and whose folders do not tell them


def next_runs(table: Table, root: Path, count: int, question: str, within: str = "", seed: int = 0) -> NextRuns:
    """Up to `count` runs for a question (question.GRAMMAR), whose prices together stay within a budget; without one,
    within the FLOPs of the most expensive run so far.

    Raises UserError where the question is none, or where no run that the budget allows would tell anything.
    """
    if len(table.runs) < FEWEST_RUNS:
        raise UserError(f"next: {several(len(table.runs), 'run')} given, at least {FEWEST_RUNS} wanted to begin with")
    _check(table)
    asked = read_question(question, table)
    largest = Budget("flop", float(table.column("flop").max()))
    budget = read_budget(within, table.currency, "within") if within else largest
    columns = {name: table.column(name) for name in ("parameters", "tokens")}
    logs, pool = np.log(np.stack(list(columns.values()), axis=1)), candidates(table, asked.place)
    n, d = np.array([one.parameters for one in pool]), np.array([one.tokens for one in pool])
    place = np.log(asked.place) if asked.place else logs.max(axis=0)
    draws = draw_laws(_forms(), columns, table.column("loss"), distance(logs, place), seed)
    noise = np.hypot(draws.noise, FARNESS * distance(np.log(np.stack([n, d], axis=1)), place))
    prices, answers = price_of(table, budget.axis, n, d), asked.answers(draws)
    unit = table.unit(budget.axis)
    if prices.min() > budget.amount:
        least = _amount(float(prices.min()), budget.axis, unit)
        raise UserError(f"within: {within} given; the cheapest run that could be made takes {least}")
    shown = draws.loss({"parameters": n, "tokens": d})
    finite = np.isfinite(answers) & np.isfinite(shown).all(axis=1)  # the others are no laws that far from the runs
    if finite.sum() < FEWEST_DRAWS:
        raise UserError("next: so far from the runs hardly any law has a finite loss; ask for less")
    answers, shown = answers[finite], shown[finite]
    chosen = choose(answers[:, None], shown, prices, noise, count, budget.amount)
    if not chosen:
        raise UserError("next: no run that could be made would narrow the answer")
    middle, seeds, runs = float(np.median(answers)), Counter[int](), []
    for one in chosen:
        candidate = replace(pool[one.candidate], seed=pool[one.candidate].seed + seeds[one.candidate])
        seeds[one.candidate] += 1
        words = words_of(candidate, root, bool(np.isin(candidate.parameters, columns["parameters"])))
        price, after = float(prices[one.candidate]), _interval(asked, middle, one.spread)
        runs.append(NextRun(candidate, price, after, tuple(words)))
    before = _interval(asked, middle, float(answers.std()))
    likes = sorted({run.candidate.like.name for run in runs}) if root.is_dir() else []
    silent = tuple(name for name in likes if not started_with(root / name))
    return NextRuns(asked, before, draws.noise, tuple(runs), budget.axis, unit, budget.amount, silent)


def _check(table: Table) -> None:
    """Raise UserError where the runs have no tokens or no positive losses, to which forms over both could be fitted."""
    if table.states_no_loss:
        raise UserError("next: the table states no loss, only what runs reached in tasks")
    if not np.isfinite([table.column(name) for name in ("tokens", "flop")]).all():
        raise UserError("next: the table states neither tokens nor FLOP of every run, which these questions are about")
    if (table.column("loss") <= 0).any():
        raise UserError("next: losses are negative (normalised), and the forms are those of positive losses")


def _forms() -> list[type[Form]]:
    """The forms over parameters and tokens."""
    return [form for form in FORMS.values() if set(form.variables) == {"parameters", "tokens"}]


def _interval(asked: Question, middle: float, spread: float) -> Interval:
    ends = (middle, middle - TWO_SIDED * spread, middle + TWO_SIDED * spread)
    return Interval(*(float(np.exp(end)) if asked.is_log else end for end in ends))


def _amount(price: float, axis: str, unit: str) -> str:
    return f"{price:.3g} FLOP" if axis == "flop" else format_amount(price, unit)


def next_json(found: NextRuns) -> dict[str, Any]:
    """The proposal as plain data."""
    runs = [
        {
            "parameters": one.candidate.parameters,
            "tokens": one.candidate.tokens,
            "seed": one.candidate.seed,
            "like": one.candidate.like.name,
            "price": one.price,
            "answer_after": one.after.to_json(),
            "words": list(one.words),
        }
        for one in found.runs
    ]
    answer = {"question": found.question.text, "answer": found.before.to_json(), "noise_log_loss": found.noise}
    return answer | {"axis": found.axis, "unit": found.unit, "within": found.within, "runs": runs}


def format_next(found: NextRuns) -> str:
    """The answer now and after each run, then the commands that make them."""

    def interval(figure: Interval) -> str:
        return f"{write(figure.value)} ({write(figure.low)} to {write(figure.high)})"

    write, total = found.question.write, sum(one.price for one in found.runs)
    rows = [("", "parameters", "tokens", "seed", "price", "answer after it")]
    rows += [
        (
            str(number),
            big(one.candidate.parameters),
            big(one.candidate.tokens),
            str(one.candidate.seed),
            _amount(one.price, found.axis, found.unit),
            interval(one.after),
        )
        for number, one in enumerate(found.runs, 1)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    within = _amount(found.within, found.axis, found.unit)
    return "\n".join(
        [
            f"{found.question.text}: {interval(found.before)} by the runs so far; a run's own noise "
            f"{100 * found.noise:.2g}%",
            "",
            *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows),
            "",
            f"{_amount(total, found.axis, found.unit)} in all, within {within}; each with",
            *(f"  isoflop sweep {shlex.join(one.words)}" for one in found.runs),
            *(
                f"note: {name} does not tell the words that it was started with; add those of its config.yaml"
                for name in found.without_words
            ),
        ]
    )
