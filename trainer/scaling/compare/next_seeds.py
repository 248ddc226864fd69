"""Which seed still decides a comparison: further runs that narrow its differences most for their price."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.books.formatting import format_amount
from trainer.report import RunData
from trainer.scaling.compare.comparison import LEVEL, Comparison
from trainer.scaling.fit.advice import read_budget
from trainer.scaling.next_runs.candidates import started_with
from trainer.scaling.statistics import student_quantile
from trainer.utils.errors import UserError

OF_ONE_RUN = ("seed=", "run.id=", "resume=")  # words that another seed does not share
UNITS = {"flop": "FLOP", "kwh": "kWh", "gco2e": "g CO2e"}


@dataclass(frozen=True)
class NextSeed:
    """One more run of a group, what it takes, and the widest difference's half width once it is made."""

    label: str
    seed: int
    price: float
    half_width: float
    words: tuple[str, ...]


@dataclass(frozen=True)
class NextSeeds:
    """Half widths of 95% intervals of differences from the first group; the smallest difference that they have to tell
    from none."""

    half_width: float
    difference: float
    runs: tuple[NextSeed, ...]
    axis: str
    within: float


def next_seeds(found: Comparison, count: int, within: str = "") -> NextSeeds:
    """Up to `count` further seeds, whose prices together stay within a budget (FLOPs, kWh or g CO2e; default: as much
    as the finished runs took).

    Seeds of all groups are taken to spread alike, as single groups have few. Raises UserError where nothing can be
    said: no group has two finished seeds, or no difference is left to decide.
    """
    undecided = _undecided(found)
    if not undecided:
        raise UserError("next: no difference is left to decide between these groups")
    freedom = sum(len(scores) - 1 for scores in found.scores if scores)
    if freedom < 1:
        raise UserError("next: how far seeds spread is not known; train a second seed of one group first")
    spread = math.sqrt(sum(float(np.var(scores)) * len(scores) for scores in found.scores if scores) / freedom)
    budget = read_budget(within, "", "within") if within else None
    axis = budget.axis if budget else "flop"
    prices = [_price(found, number, axis) for number in range(len(found.groups))]
    made = np.array([len(scores) for scores in found.scores], float)
    total = left = budget.amount if budget else float(made @ np.array(prices))
    seeds, runs = made, list[NextSeed]()
    while len(runs) < count and (able := [k for k in (0, *undecided) if prices[k] <= left]):
        best = max(
            able, key=lambda k: (_variance(seeds, undecided) - _variance(_more(seeds, k), undecided)) / prices[k]
        )
        group, seeds, left = found.groups[best], _more(seeds, best), left - prices[best]
        seed = max(run.config.seed for run in group.runs) + int(seeds[best] - made[best])
        half = _half_width(spread, seeds, undecided, freedom + len(runs) + 1)
        runs.append(NextSeed(group.label, seed, prices[best], half, tuple(_words(group.runs[0], seed))))
    if not runs:
        least = _amount(min(prices[k] for k in (0, *undecided)), axis)
        raise UserError(f"within: {within} given; the cheapest further run takes {least}")
    means = [float(np.mean(scores)) if scores else math.nan for scores in found.scores]
    smallest = min(abs(means[k] - means[0]) for k in undecided)
    return NextSeeds(_half_width(spread, made, undecided, freedom), smallest, tuple(runs), axis, total)


def _undecided(found: Comparison) -> list[int]:
    """Numbers of the groups whose difference from the first is on one scale and not yet larger than seed noise."""
    if not found.scores[0]:
        return []
    return [
        number
        for number, verdict in enumerate(found.verdicts, 1)
        if found.scores[number] and verdict.comparable and not (verdict.p is not None and verdict.p < LEVEL)
    ]


def _more(seeds: np.ndarray, group: int) -> np.ndarray:
    return seeds + (np.arange(len(seeds)) == group)


def _variance(seeds: np.ndarray, undecided: Sequence[int]) -> float:
    """Of all undecided differences together, in squares of the spread of seeds."""
    return float(sum(1 / seeds[0] + 1 / seeds[k] for k in undecided))


def _half_width(spread: float, seeds: np.ndarray, undecided: Sequence[int], freedom: int) -> float:
    """Of the widest of the undecided differences."""
    widest = max(1 / seeds[0] + 1 / seeds[k] for k in undecided)
    return student_quantile(freedom) * spread * math.sqrt(widest)


def _price(found: Comparison, number: int, axis: str) -> float:
    amount = found.spent[number].get(axis)
    if amount is None:
        raise UserError(f"within: the runs of {found.groups[number].label} do not state their {axis}")
    return float(amount)


def _words(run: RunData, seed: int) -> list[str]:
    """What `isoflop sweep` takes to make this run with another seed."""
    return [*(word for word in started_with(run.run) if not word.startswith(OF_ONE_RUN)), f"seed={seed}"]


def _amount(price: float, axis: str) -> str:
    return format_amount(price, UNITS[axis])


def seeds_json(found: NextSeeds) -> dict[str, Any]:
    """The proposal as plain data."""
    runs = [vars(one) | {"words": list(one.words)} for one in found.runs]
    return vars(found) | {"runs": runs, "unit": UNITS[found.axis]}


def format_seeds(found: NextSeeds) -> list[str]:
    """One line a run, then what they tell, then the commands that make them."""
    total = sum(one.price for one in found.runs)
    last = found.runs[-1].half_width
    enough = "which would then be decided" if last < found.difference else "which would still be within it"
    rows = [
        f"  seed {one.seed} of {one.label}: {_amount(one.price, found.axis)}, then +- {one.half_width:.4f}"
        for one in found.runs
    ]
    return [
        f"seeds that decide: differences are known to +- {found.half_width:.4f}",
        *rows,
        f"{_amount(total, found.axis)} in all, within {_amount(found.within, found.axis)}; the smallest difference is "
        f"{found.difference:.4f}, {enough}; each with",
        *(f"  isoflop sweep {shlex.join(one.words)}" for one in found.runs),
    ]
