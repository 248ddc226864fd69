"""From a grid to its runs: pre-training with equal budgets, then tuning on every task. Nothing is started here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.compose import compose, parse
from trainer.config import Config, GridConfig
from trainer.objectives import check_family
from trainer.run.finetune_config import tuned
from trainer.scaling.grid.records import files_of
from trainer.scaling.ladder import PlannedRun, each
from trainer.utils.errors import UserError


@dataclass(frozen=True)
class Cell:
    """One objective with one seed: a pre-training run."""

    objective: str
    seed: int
    run: PlannedRun


@dataclass(frozen=True)
class Trial:
    """One cell on one task: a tuning run."""

    cell: Cell
    task: str
    run: PlannedRun


def cells(grid: GridConfig, words: Sequence[str]) -> list[Cell]:
    """The pre-training runs, row by row; `words` are overrides of all. Raises UserError with all that is wrong."""
    _not_the_grids(words)

    def row(objective: str) -> list[Cell]:
        own = [*grid.base, *words, *grid.objectives[objective], *grid.budget, f"run.experiment={grid.name}"]
        found = []
        for seed in grid.seeds:
            run = [*own, f"seed={seed}", f"run.id={plain(objective)}-s{seed}"]
            config = compose(run)
            check_family(config)
            found.append(Cell(objective, seed, PlannedRun(tuple(run), config)))
        return found

    return [cell for row_cells in each(list(grid.objectives), row) for cell in row_cells]


def _not_the_grids(words: Sequence[str]) -> None:
    """A key that the grid states would be lost beside it."""
    theirs = {"seed": "grid.seeds", "run.experiment": "grid.name", "run.id": "grid.name"}
    wrong = [one for one in parse(words) if one.key in theirs]
    if wrong:
        raise UserError("\n".join(f"{one.text}: the grid states it; set {theirs[one.key]}" for one in wrong))


def trials(grid: GridConfig, trained: Sequence[Cell], folder: Path) -> list[Trial]:
    """The tuning runs of pre-trained cells, but those whose family cannot do the task."""
    found = []
    for cell in trained:
        for name, task in grid.tasks.items():
            words = [*task.words, *grid.tuning, *files_of(folder, name), f"seed={cell.seed}"]
            words += [f"run.experiment={grid.name}", f"run.id={cell.run.name}-on-{plain(name)}"]
            if possible(cell.run.config, words):
                config = tuned(cell.run.folder, words)
                run = PlannedRun((f"from={cell.run.folder.path}", *words), config)
                found.append(Trial(cell, name, run))
    return found


def possible(config: Config, words: Sequence[str]) -> bool:
    """Whether a model of this family can be tuned so: an encoder writes no text."""
    task = compose(words).task.description
    return task is None or config.model.family in task.families


def plain(name: str) -> str:
    """A name as part of a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
