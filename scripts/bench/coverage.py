"""How often the intervals of `isoflop fit` hold what they are about, over generated tables of known laws.

    python scripts/bench/coverage.py [--tables 40] [--runs 40] [--replicates 200] [--forms chinchilla,kaplan]

For each form, tables of runs at random places with log-normal noise, with and without two runs of 40 that lie 5% too
high. Every form that a table allows is a candidate, so that most of them are wrong. Printed is how often the interval
of a prediction holds runs of 2 to 8 times the largest compute, which the fit has not seen, how often the true form was
chosen, the mean error and the mean half-width; last, how often the intervals of Chinchilla's constants hold them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder: it has modules of our packages' names

from trainer.scaling.fit.advice import flop_rate  # noqa: E402
from trainer.scaling.fit.choice import choose  # noqa: E402
from trainer.scaling.fit.ensemble import Ensemble, ensemble_of  # noqa: E402
from trainer.scaling.fit.findings import which_forms  # noqa: E402
from trainer.scaling.fit.parametric import fit_law  # noqa: E402
from trainer.scaling.fit.resampling import interval, resample  # noqa: E402
from trainer.scaling.fit.table import Run, Table  # noqa: E402
from trainer.scaling.forms import FORMS  # noqa: E402

TRUE: dict[str, tuple[float, ...]] = {  # as published
    "chinchilla": (1.69, 406.4, 410.7, 0.34, 0.28),
    "kaplan": (0.076, 0.095, 8.8e13, 5.4e13),
}
OUTLIER = 0.05  # how much too high
REACH = (2.0, 8.0)  # of the runs that are predicted, over the largest compute
PREDICTED = 10  # runs a table


class Made(NamedTuple):
    """A table, and larger runs that it does not hold."""

    table: Table
    points: dict[str, np.ndarray]
    loss: np.ndarray


def made(form: str, count: int, noise: float, outliers: int, seed: int) -> Made:
    """Sizes and tokens log-uniform over a factor of 400 in N and 100 in D."""
    random = np.random.default_rng(seed)
    points = _places(form, count, random, 0, 1)
    top = (points["parameters"] * points["tokens"]).max()
    beyond = _places(form, PREDICTED, random, 0.6, 1.2)
    wanted = top * np.exp(random.uniform(*np.log(REACH), PREDICTED))
    beyond["tokens"] *= wanted / (beyond["parameters"] * beyond["tokens"])
    values = np.array([TRUE[form]])

    def losses(at: dict[str, np.ndarray]) -> np.ndarray:
        columns = {**at, "flop": 6 * at["parameters"] * at["tokens"]}
        loss = FORMS[form].loss_at(values, [columns[name] for name in FORMS[form].variables])[0]
        return loss * np.exp(noise * random.standard_normal(len(loss)))

    loss = losses(points)
    loss[random.choice(count, outliers, replace=False)] *= 1 + OUTLIER
    rows = zip(*points.values(), strict=True)
    runs = [Run(**{"name": str(k), **dict(zip(points, row, strict=True)), "flop": 6 * row[0] * row[1], "loss": loss[k]})
            for k, row in enumerate(rows)]  # fmt: skip
    return Made(Table(tuple(runs), "generated", "6 N D"), beyond, losses(beyond))


def _places(form: str, count: int, random: np.random.Generator, low: float, high: float) -> dict[str, np.ndarray]:
    n = 4e7 * 400 ** random.uniform(low, high, count)
    d = 2e9 * 100 ** random.uniform(low, high, count)
    points = {"parameters": n, "tokens": d}
    if "unique_tokens" in FORMS[form].variables:
        points["unique_tokens"] = d / np.exp(random.uniform(0, np.log(40), count) * (random.random(count) < 0.7))
    return points


def fitted(table: Table, replicates: int, seed: int) -> Ensemble:
    forms, refused = which_forms(table)
    choice = choose(table, forms, refused)
    weights = resample(table, replicates, seed)
    laws = {form: fit_law(table, form, weights) for form in choice.weights()}
    return ensemble_of(table, choice, laws, flop_rate(table), seed)


def predictions(form: str, tables: int, runs: int, replicates: int, noise: float, outliers: int) -> str:
    held, errors, widths, chosen = [], [], [], Counter[str]()
    for seed in range(tables):
        example = made(form, runs, noise, outliers, seed)
        ensemble = fitted(example.table, replicates, seed)
        chosen[ensemble.members[0].form] += 1
        for figure, loss in zip(ensemble.interval(example.points), example.loss, strict=True):
            held.append(figure.low <= loss <= figure.high)
            errors.append(abs(figure.value / loss - 1))
            widths.append((figure.high - figure.low) / 2 / figure.value)
    names = ", ".join(f"{name} {count}" for name, count in chosen.most_common())
    return (
        f"{form:<18} {noise:>5.1%} noise {outliers} outliers  holds {np.mean(held):>6.1%} of {len(held)}  "
        f"error {np.mean(errors):.2%}  half-width {np.mean(widths):.2%}  chosen: {names}"
    )


def constants(tables: int, replicates: int) -> None:
    true = TRUE["chinchilla"]
    for count, noise in ((12, 0.005), (25, 0.01)):
        inside = np.zeros(len(true))
        for seed in range(tables):
            table = made("chinchilla", count, noise, 0, seed).table
            law = fit_law(table, "chinchilla", resample(table, replicates, seed))
            for k, column in enumerate(law.constants().T):
                figure = interval(column[0], column[1:])
                inside[k] += figure.low <= true[k] <= figure.high
        shares = zip(FORMS["chinchilla"].constants, inside / tables, strict=True)
        print(f"{count} runs, {noise:.1%} noise: " + "  ".join(f"{name} {share:.0%}" for name, share in shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=40)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--forms", default=",".join(TRUE))
    options = parser.parse_args()
    for form in options.forms.split(","):
        for noise, outliers in ((0.005, 0), (0.01, 2)):
            print(predictions(form, options.tables, options.runs, options.replicates, noise, outliers), flush=True)
    constants(options.tables, options.replicates)


if __name__ == "__main__":
    main()
