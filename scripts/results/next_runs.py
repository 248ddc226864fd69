"""Public tables as pools of runs: which are worth their price?

Of each table the largest runs are held out. Of the rest, runs of 5% and of 10% of all its cost are chosen: by what
they tell about the held-out ones (`trainer.scaling.next_runs`, in rounds of an eighth of the budget), at random, and
cheapest first. Printed is R2 of the held-out losses by a law of the chosen runs.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainer.scaling.forms import FORMS
from trainer.scaling.next_runs.design import greedy
from trainer.scaling.next_runs.posterior import FARNESS, Draws, distance, draw_laws

ROUNDS, FIRST, SEEDS = 8, 6, 5
SHARES = (0.05, 0.10)
PUBLISHED = {"farseer-404": (0.88, 0.93), "data-constrained-161": (0.85, 0.86), "moe-193": (0.80, 0.83)}


class Pool(NamedTuple):
    """A table: columns [n] by name, which runs are held out, what each cost."""

    forms: tuple[str, ...]
    columns: dict[str, np.ndarray]
    held_out: np.ndarray
    cost: np.ndarray
    split: str

    @property
    def variables(self) -> list[str]:
        return sorted({name for form in self.forms for name in FORMS[form].variables})

    def apart(self) -> np.ndarray:
        logs = np.log(np.stack([self.columns[name] for name in self.variables], axis=1))
        return distance(logs, logs[self.held_out].mean(axis=0))

    def law(self, rows: np.ndarray, seed: int = 0, draws: int = 200) -> Draws:
        columns = {name: self.columns[name][rows] for name in self.variables}
        forms = [FORMS[form] for form in self.forms]
        return draw_laws(forms, columns, self.columns["loss"][rows], self.apart()[rows], seed, draws)

    def shown(self, law: Draws, rows: np.ndarray) -> np.ndarray:
        return law.loss({name: self.columns[name][rows] for name in self.variables})

    def score(self, rows: np.ndarray) -> float:
        """R2 of the held-out losses by the median law of these runs."""
        if len(rows) <= min(len(FORMS[form].constants) for form in self.forms):
            return float("nan")
        loss = self.columns["loss"][self.held_out]
        predicted = np.exp(np.median(self.shown(self.law(rows, draws=400), np.flatnonzero(self.held_out)), axis=0))
        return float(1 - ((loss - predicted) ** 2).sum() / ((loss - loss.mean()) ** 2).sum())


def read(folder: Path, name: str) -> Pool:
    with (folder / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = {title: np.array([float(row[title]) for row in rows]) for title in rows[0]}
    n = columns["parameters"]
    if name == "farseer-404":
        cost = 6 * n * columns["tokens"]
        return Pool(("chinchilla", "farseer"), columns, cost > np.quantile(cost, 0.9), cost, "largest tenth by 6 N D")
    if name == "data-constrained-161":
        tokens = columns["tokens"]
        cost, out = 6 * n * tokens, tokens > np.quantile(tokens, 0.9)
        return Pool(("data-constrained",), columns, out, cost, "largest tenth by tokens")
    out = n >= np.unique(n)[-2]
    return Pool(("experts", "experts-floor"), columns, out, n * columns["experts"], "two largest of five sizes")


def by_what_they_tell(pool: Pool, budget: float) -> np.ndarray:
    rest = np.flatnonzero(~pool.held_out)
    chosen = list(rest[np.argsort(pool.cost[rest])][:FIRST])
    asked = np.flatnonzero(pool.held_out)
    for number in range(10 * ROUNDS):
        left = budget - pool.cost[chosen].sum()
        open_rows = np.setdiff1d(rest, chosen)
        law = pool.law(np.array(chosen), seed=number)
        answers, shown = pool.shown(law, asked), pool.shown(law, open_rows)
        covariance = np.cov(np.concatenate([answers, shown], axis=1), rowvar=False)
        noise = np.hypot(law.noise, FARNESS * pool.apart()[open_rows])
        some = left if left < 1.5 * budget / ROUNDS else budget / ROUNDS
        found = greedy(covariance, len(asked), pool.cost[open_rows], noise, 200, some, 0.5)
        found = found or greedy(covariance, len(asked), pool.cost[open_rows], noise, 1, left, 0.5)
        if not found:
            break
        chosen += sorted({int(open_rows[one.candidate]) for one in found})
    return np.array(chosen)


def first_of(pool: Pool, order: np.ndarray, budget: float) -> np.ndarray:
    return order[np.cumsum(pool.cost[order]) <= budget]


def lines_of(folder: Path, name: str) -> list[str]:
    pool = read(folder, name)
    rest, lines = np.flatnonzero(~pool.held_out), []
    total, whole = pool.cost[rest].sum(), pool.score(rest)
    for share, published in zip(SHARES, PUBLISHED[name], strict=True):
        budget = share * total
        ours, cheapest = by_what_they_tell(pool, budget), first_of(pool, rest[np.argsort(pool.cost[rest])], budget)
        orders = [np.random.default_rng(seed).permutation(rest) for seed in range(SEEDS)]
        random = sorted(pool.score(first_of(pool, order, budget)) for order in orders)
        middle = float(np.median(np.nan_to_num(random, nan=-np.inf)))
        said = f"{middle:.2f}" if np.isfinite(middle) else "none"
        lines.append(
            f"| {name} | {pool.split} | {share:.0%} | {len(ours)} | {pool.score(ours):.2f} | {said} | "
            f"{pool.score(cheapest):.2f} | {whole:.2f} | {published:.2f} |"
        )
        print(lines[-1], flush=True)
    return lines


HEAD = """\
# Which run next: public tables as pools

`scripts/results/next_runs`: R2 of held-out larger runs by laws of runs that took 5% and 10% of the table's cost. Random
is the median of {seeds} orders; "all" has every run that is not held out. The published figures (arXiv 2604.22753) are
of other held-out runs, which the tables do not hold.

| table | held out | of the cost | runs | by what they tell | random | cheapest | all | published |
|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="docs/results/next-runs.md")
    parser.add_argument("tables", nargs="*", default=list(PUBLISHED))
    options = parser.parse_args()
    folder = Path(os.environ.get("ISOFLOP_LAW_TABLES") or parser.error("ISOFLOP_LAW_TABLES names no folder of tables"))
    lines = [line for name in options.tables for line in lines_of(folder, name)]
    Path(options.out).write_text(HEAD.format(seeds=SEEDS) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
