"""What a grid came to, read from its run folders alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from trainer.books.records import read_json
from trainer.config import GridConfig
from trainer.report.run_data import RunData, read_run
from trainer.run_folder import readable
from trainer.scaling.grid.plan import Cell, Trial
from trainer.scaling.statistics import mean_interval
from trainer.utils.outcomes import Status

# What a run costs: name -> the row of its price tag.
COSTS = {"flop": "flop.total", "tokens": "data.tokens", "seconds": "time.wall", "kwh": "energy.kwh"}
COSTS |= {"kgco2e": "carbon.kgco2e", "money": "cost.amount"}
FAMILIES = {"decoder": "decoder", "encoder": "encoder", "encoder_decoder": "encoder-decoder"}


@dataclass(frozen=True)
class Score:
    """One objective on one task, over seeds."""

    values: tuple[float, ...]
    best: bool = False

    @property
    def mean(self) -> float:
        return mean_interval(self.values)[0]

    @property
    def half_width(self) -> float | None:
        """Of Student's 95% interval; None for one seed."""
        return mean_interval(self.values)[1]


@dataclass(frozen=True)
class Row:
    """One objective: its scores, what it reads and learns from in a step, and what it cost over all seeds."""

    objective: str
    family: str
    parameters: int
    steps: int
    tokens_per_step: int
    targets_per_step: float | None  # tokens that bear loss
    scores: dict[str, Score | None]
    costs: dict[str, float | None]  # pre-training
    tuning_costs: dict[str, float | None]
    unfinished: tuple[str, ...]  # runs that are missing from it
    size: str | None = None  # None in a grid without sizes


@dataclass(frozen=True)
class Point:
    """One pre-trained model on one task: its score, and what its pre-training took."""

    objective: str
    size: str | None
    seed: int
    task: str
    value: float
    costs: dict[str, float | None]


@dataclass(frozen=True)
class Results:
    """The table, and what it cost."""

    grid: GridConfig
    rows: tuple[Row, ...]
    baselines: dict[str, dict[str, float]]  # task -> plain method -> score
    currency: str | None
    commit: str | None
    numerics: str | None = None  # of the runs in the table
    other_numerics: tuple[str, ...] = ()  # runs that are left out, for they are of others
    points: tuple[Point, ...] = ()

    @property
    def sizes(self) -> list[str]:
        """Labels, in the order of the grid; none in a grid without sizes."""
        return list(dict.fromkeys(row.size for row in self.rows if row.size is not None))

    def total(self, name: str) -> float | None:
        """Cost of everything, pre-training and tuning; None where a part is not stated."""
        parts = [costs.get(name) for row in self.rows for costs in (row.costs, row.tuning_costs)]
        known = [part for part in parts if part is not None]
        return sum(known) if known and len(known) == len(parts) else None


def read_results(grid: GridConfig, trained: Sequence[Cell], tuned: Sequence[Trial]) -> Results:
    """The table of the runs that have finished; those that have not are named in their row."""
    read = {run.name: finished_run(run.folder.path) for run in [*(c.run for c in trained), *(t.run for t in tuned)]}
    numerics, others = _one_numerics(read)
    read |= dict.fromkeys(others)
    rows: list[Row] = []
    for size in dict.fromkeys(cell.size for cell in trained):
        of_size = []
        for objective in grid.objectives:
            cells = [cell for cell in trained if (cell.objective, cell.size) == (objective, size)]
            trials = [trial for trial in tuned if (trial.cell.objective, trial.cell.size) == (objective, size)]
            of_size.append(_row(grid, objective, cells, trials, read))
        rows += _mark_best(grid, of_size)
    baselines: dict[str, dict[str, float]] = {}
    for trial in tuned:
        found = _baselines(trial.run.folder.path, grid.tasks[trial.task].score)
        if found:
            baselines.setdefault(trial.task, found)
    first = next((run_data for run_data in read.values() if run_data is not None), None)
    return Results(
        grid,
        tuple(rows),
        baselines,
        first.site.currency if first else None,
        _commit(first),
        numerics,
        others,
        _points(grid, tuned, read),
    )


def _points(grid: GridConfig, tuned: Sequence[Trial], read: Mapping[str, RunData | None]) -> tuple[Point, ...]:
    found = []
    for trial in tuned:
        cell, trained = trial.cell, read[trial.cell.run.name]
        if trained is None or read[trial.run.name] is None:
            continue
        value = _score(trial.run.folder.path, grid.tasks[trial.task].score)
        if value is not None:
            found.append(Point(cell.objective, cell.size, cell.seed, trial.task, value, _costs([trained])))
    return tuple(found)


def _one_numerics(read: Mapping[str, RunData | None]) -> tuple[str | None, tuple[str, ...]]:
    """The numerics that most runs have, the first of these; and the names of the runs of others."""
    tags = {name: run_data.numerics for name, run_data in read.items() if run_data is not None}
    most = max(dict.fromkeys(tags.values()), key=list(tags.values()).count, default=None)
    return most, tuple(name for name, one in tags.items() if one != most)


def finished_run(path: Path) -> RunData | None:
    """What its folder tells of a run; None where it has not finished, or is not there."""
    if not (path / "config.yaml").is_file():
        return None
    return next((run for run in readable([path], read_run) if run.status == Status.FINISHED), None)


def _row(
    grid: GridConfig, objective: str, cells: list[Cell], trials: list[Trial], read: dict[str, RunData | None]
) -> Row:
    config = cells[0].run.config
    trained = [run_data for cell in cells if (run_data := read[cell.run.name]) is not None]
    tuned = [run_data for trial in trials if (run_data := read[trial.run.name]) is not None]
    scores: dict[str, Score | None] = {}
    for task in grid.tasks:
        paths = [trial.run.folder.path for trial in trials if trial.task == task and read[trial.run.name] is not None]
        values = [value for path in paths if (value := _score(path, grid.tasks[task].score)) is not None]
        scores[task] = Score(tuple(values)) if values else None
    missing = [run.name for run in [*(c.run for c in cells), *(t.run for t in trials)] if read[run.name] is None]
    targets = [record["targets"] for run_data in trained for record in run_data.steps.kept]
    from trainer.books import parameters

    return Row(
        objective=objective,
        family=FAMILIES[config.model.family],
        parameters=parameters(config).total,
        steps=max((run_data.steps.kept[-1]["step"] for run_data in trained), default=0),
        tokens_per_step=config.optim.batch_size * config.data.sequence_length,
        targets_per_step=mean(targets) if targets else None,
        scores=scores,
        costs=_costs(trained),
        tuning_costs=_costs(tuned),
        unfinished=tuple(missing),
        size=cells[0].size,
    )


def _costs(runs: Sequence[RunData]) -> dict[str, float | None]:
    """Sums over runs; None where one of them does not state it."""
    sums: dict[str, float | None] = {}
    for name, key in COSTS.items():
        values = [run.tag[key].measured.value for run in runs if run.tag[key].measured is not None]  # type: ignore[union-attr]
        known = [value for value in values if value is not None]
        sums[name] = sum(known) if known and len(known) == len(runs) else None
    return sums


def _score(path: Path, name: str) -> float | None:
    if name == "perplexity":
        evaluations = read_run(path).steps.evaluations
        return math.exp(evaluations[-1]["loss"]) if evaluations else None
    facts = read_json(path / "task.json")
    value = facts.get("metrics", {}).get(name) if isinstance(facts, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _baselines(path: Path, score: str) -> dict[str, float]:
    facts = read_json(path / "task.json")
    beside = facts.get("baselines", {}) if isinstance(facts, dict) else {}
    return {name: metrics[score] for name, metrics in beside.items() if metrics.get(score) is not None}


def _mark_best(grid: GridConfig, rows: Sequence[Row]) -> list[Row]:
    """The best mean of every column, and all that equal it."""
    best = {}
    for name, task in grid.tasks.items():
        means = [score.mean for row in rows if (score := row.scores[name]) is not None]
        if means:
            best[name] = (min if task.lower_is_better else max)(means)

    def marked(name: str, score: Score | None) -> Score | None:
        return score and replace(score, best=score.mean == best[name])

    return [replace(row, scores={name: marked(name, score) for name, score in row.scores.items()}) for row in rows]


def _commit(run_data: RunData | None) -> str | None:
    attempts = run_data.environment if run_data is not None else None
    git = attempts[-1].get("git") if isinstance(attempts, list) and attempts else None
    return git.get("commit") if isinstance(git, dict) else None


def results_json(results: Results) -> dict[str, Any]:
    """The table as plain data."""
    rows = []
    for row in results.rows:
        scores = {
            name: None
            if score is None
            else {"values": list(score.values), "mean": score.mean, "half_width": score.half_width, "best": score.best}
            for name, score in row.scores.items()
        }
        rows.append({**vars(row), "scores": scores, "unfinished": list(row.unfinished)})
    grid = results.grid
    return {
        "title": grid.title,
        "grid": grid.model_dump(mode="json"),
        "rows": rows,
        "baselines": results.baselines,
        "total": {name: results.total(name) for name in COSTS},
        "currency": results.currency,
        "commit": results.commit,
        "numerics": results.numerics,
        "other_numerics": list(results.other_numerics),
    }
