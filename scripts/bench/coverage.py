"""How often the intervals of `isoflop fit` hold the constants that a table was made from.

    python scripts/bench/coverage.py [--tables 60] [--replicates 200]

Tables of sizes and tokens drawn at random, with losses by Hoffmann et al. 2022's law and log-normal noise.
"""

from __future__ import annotations

import argparse

import numpy as np

from trainer.scaling.fit.parametric import fit_law
from trainer.scaling.fit.resampling import interval, resample
from trainer.scaling.fit.table import Run, Table
from trainer.scaling.forms import FORMS

TRUE = (1.69, 406.4, 410.7, 0.34, 0.28)


def made(count: int, noise: float, seed: int) -> Table:
    random = np.random.default_rng(seed)
    n = np.exp(random.uniform(np.log(4e7), np.log(1.6e10), count))
    d = np.exp(random.uniform(np.log(5e9), np.log(5e11), count))
    e, a, b, alpha, beta = TRUE
    loss = (e + a / n**alpha + b / d**beta) * np.exp(noise * random.standard_normal(count))
    runs = [Run(str(k), n[k], d[k], 6 * n[k] * d[k], loss[k]) for k in range(count)]
    return Table(tuple(runs), "generated", "6 N D")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=60)
    parser.add_argument("--replicates", type=int, default=200)
    options = parser.parse_args()
    for count, noise in ((12, 0.005), (25, 0.01)):
        inside = np.zeros(len(TRUE))
        for seed in range(options.tables):
            table = made(count, noise, seed)
            law = fit_law(table, "chinchilla", resample(table, options.replicates, seed))
            for k, column in enumerate(law.constants().T):
                figure = interval(column[0], column[1:])
                inside[k] += figure.low <= TRUE[k] <= figure.high
        shares = zip(FORMS["chinchilla"].constants, inside / options.tables, strict=True)
        print(f"{count} runs, {noise:.1%} noise: " + "  ".join(f"{name} {share:.0%}" for name, share in shares))


if __name__ == "__main__":
    main()
