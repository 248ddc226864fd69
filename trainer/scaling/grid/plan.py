"""From a grid to its runs: pre-training with equal budgets, then tuning on every task. Nothing is started here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.books import flops, parameters
from trainer.compose import compose, parse
from trainer.config import Config, GridConfig
from trainer.objectives import check_family
from trainer.run.finetune_config import tuned
from trainer.scaling.grid.records import files_of
from trainer.scaling.ladder import PlannedRun, each, short_name, size_label, size_words
from trainer.utils.errors import UserError


@dataclass(frozen=True)
class Cell:
    """One objective of one size with one seed: a pre-training run."""

    objective: str
    seed: int
    run: PlannedRun
    size: str | None = None  # its label; None in a grid without sizes


@dataclass(frozen=True)
class Trial:
    """One cell on one task: a tuning run."""

    cell: Cell
    task: str
    run: PlannedRun


def cells(grid: GridConfig, words: Sequence[str]) -> list[Cell]:
    """The pre-training runs, size by size and row by row; `words` are overrides of all. Raises UserError with all that
    is wrong."""
    _not_the_grids(grid, words)
    sizes: list[tuple[str | None, list[str]]] = [(None, [])]
    if grid.sizes:
        sizes = [(size_label(one), size_words(one, "grid.sizes")) for one in grid.sizes]
        same = [name for name, times in Counter(name for name, _ in sizes).items() if times > 1]
        if same:
            raise UserError(f"grid.sizes: two sizes would share the folders of {same[0]}; their models must differ")

    def row(place: tuple[int, str]) -> list[Cell]:
        number, objective = place
        label, of_size = sizes[number]
        own = [*grid.base, *words, *grid.objectives[objective], *of_size]
        own += [_budget(grid, number, [*grid.base, *words], of_size), f"run.experiment={grid.name}"]
        name = plain(objective) if label is None else f"{plain(objective)}-{label}"
        found = []
        for seed in grid.seeds:
            run = [*own, f"seed={seed}", f"run.id={short_name(f'{name}-s{seed}')}"]
            config = compose(run)
            check_family(config)
            found.append(Cell(objective, seed, PlannedRun(tuple(run), config), label))
        return found

    places = [(number, objective) for number in range(len(sizes)) for objective in grid.objectives]
    return [cell for row_cells in each(places, row) for cell in row_cells]


def _budget(grid: GridConfig, number: int, words: Sequence[str], of_size: Sequence[str]) -> str:
    """The budget of a size as an override of its runs."""
    name, amount = grid.amount(number)
    if name != "tokens_per_parameter":
        return f"budget.{name}={amount}"
    first = next(iter(grid.objectives.values()))
    config = compose([*words, *first, *of_size, "budget.steps=1000000000"])
    return f"budget.flop={round(amount * parameters(config).total * flops(config).per_token)}"


def _not_the_grids(grid: GridConfig, words: Sequence[str]) -> None:
    """A key that the grid states would be lost beside it."""
    theirs = {"seed": "grid.seeds", "run.experiment": "grid.name", "run.id": "grid.name"}
    for size in grid.sizes:
        theirs |= {one.key: "grid.sizes" for one in parse(size_words(size, "grid.sizes"))}
    wrong = [one for one in parse(words) if one.key in theirs]
    if wrong:
        raise UserError("\n".join(f"{one.text}: the grid states it; set {theirs[one.key]}" for one in wrong))


def trials(
    grid: GridConfig, trained: Sequence[Cell], folder: Path, progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[Trial]:
    """The tuning runs of pre-trained cells, but those whose family cannot do the task. Each reads its records."""
    found = []
    for number, cell in enumerate(trained):
        progress("tuning runs", number + 1, len(trained))
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
