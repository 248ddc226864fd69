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

TRUE: dict[str, tuple[float, ...]] = {  # about as published, or as fitted to published tables
    "chinchilla": (1.69, 406.4, 410.7, 0.34, 0.28),
    "kaplan": (0.076, 0.095, 8.8e13, 5.4e13),
    "ladder": (1.7, 250.0, 0.11),
    "farseer": (-8.06, 7.25, 0.0138, -3.17, 1.685, -0.0398, 0.994, -2.229, -0.159),
    "over-training": (1.62, 163.6, 281.8, 0.1285),
    "data-constrained": (1.87, 521.0, 1488.0, 0.35, 0.35, 15.4, 5.3),
    "experts": (-0.088, -0.126, 0.005, 2.65, 2.4, 400.0),
    "experts-floor": (1.3, 30.0, 0.16, 0.09, 2.5, 350.0),
    "mixture": (35.91, -0.1889, 0.2285, -0.0098, 35.98, -0.1775, -0.5529, 0.0259, 1.3637, 2.07, 290.0),
    "vocabulary": (-6.5, 60.0, 30.0, 3e4, 0.25, 0.15, 0.45),
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
    beyond = _places(form, PREDICTED, random, 0.6, 1.2)
    grown = _amount(points).max() * np.exp(random.uniform(*np.log(REACH), PREDICTED)) / _amount(beyond)
    if form == "ladder":  # its tokens follow its parameters
        beyond = {name: beyond[name] * np.sqrt(grown) for name in ("parameters", "tokens")}
    else:
        beyond[next(name for name in ("tokens", "characters", "parameters") if name in beyond)] *= grown
    values = np.array([TRUE[form]])
    spec = FORMS[form]

    def losses(at: dict[str, np.ndarray]) -> np.ndarray:
        columns = {**at, "flop": _amount(at)}
        loss = spec.loss_at(values, [columns[name] for name in spec.variables])[0]
        errors = noise * random.standard_normal(len(loss))
        return loss + errors if spec.normalised else loss * np.exp(errors)

    loss = losses(points)
    loss[random.choice(count, outliers, replace=False)] += OUTLIER * (1 if spec.normalised else loss.mean())
    absent = {"tokens": np.nan, "flop": np.nan}
    rows = [dict(zip(points, row, strict=True)) for row in zip(*points.values(), strict=True)]
    flop = _amount(points)
    runs = [
        Run(**{"name": str(k), **absent, **row, "loss": loss[k], **({"flop": flop[k]} if "tokens" in row else {})})
        for k, row in enumerate(rows)
    ]
    return Made(Table(tuple(runs), "generated", "6 N D"), beyond, losses(beyond))


def _amount(points: dict[str, np.ndarray]) -> np.ndarray:
    """6 N D, or as far as there are both."""
    size = points.get("active", points["parameters"])
    return 6 * size * points["tokens"] if "tokens" in points else size * points.get("characters", 1.0)


def _places(form: str, count: int, random: np.random.Generator, low: float, high: float) -> dict[str, np.ndarray]:
    n = 4e7 * 400 ** random.uniform(low, high, count)
    d = 2e9 * 100 ** random.uniform(low, high, count)
    d = 20 * n if form == "ladder" else d
    columns = {
        "tokens": d,
        "active": n / 4,
        "unique_tokens": d / np.exp(random.uniform(0, np.log(40), count) * (random.random(count) < 0.7)),
        "experts": 2.0 ** random.integers(0, 9, count),
        "vocabulary": random.choice([4096.0, 8192.0, 16384.0, 32768.0, 65536.0], count),
        "characters": 4 * d,
    }
    read = {"tokens", *FORMS[form].needs} if "flop" in FORMS[form].needs else set(FORMS[form].needs)
    return {"parameters": n, **{name: columns[name] for name in columns if name in read}}


def fitted(table: Table, replicates: int, seed: int) -> Ensemble:
    forms, refused = which_forms(table)
    choice = choose(table, forms, refused)
    weights = resample(table, replicates, seed)
    laws = {form: fit_law(table, form, weights if form in choice.weights() else None) for form in forms}
    return ensemble_of(table, choice, laws, flop_rate(table), seed)


def predictions(form: str, tables: int, runs: int, replicates: int, noise: float, outliers: int) -> str:
    held, errors, widths, chosen = [], [], [], Counter[str]()
    for seed in range(tables):
        example = made(form, runs, noise, outliers, seed)
        ensemble = fitted(example.table, replicates, seed)
        chosen[ensemble.members[0].form] += 1
        for figure, loss in zip(ensemble.interval(example.points), example.loss, strict=True):
            held.append(figure.low <= loss <= figure.high)
            size = 1 if FORMS[form].normalised else loss
            errors.append(abs(figure.value - loss) / size)
            widths.append((figure.high - figure.low) / 2 / size)
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
