"""Objectives at equal compute: pre-train each alike, tune all on the same tasks, print the table."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.compose import compose_grid
from trainer.config import GridConfig
from trainer.meter import costs
from trainer.scaling.grid.efficiency import ObjectiveEfficiency, efficiencies, efficiencies_json
from trainer.scaling.grid.plan import Cell, Trial, cells, trials
from trainer.scaling.grid.records import write_records
from trainer.scaling.grid.results import Results, read_results, results_json
from trainer.scaling.grid.text import format_plan, format_results, markdown
from trainer.scaling.sweep import Failure, check_folders, check_jobs, finished, run_all, warm_up
from trainer.trackers.wandb_variables import forget_names_of_one_run
from trainer.utils.command_line import same_again
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import STOPPED
from trainer.utils.progress import progress_bar

__all__ = [
    "Ended",
    "format_plan",
    "format_results",
    "planned_grid",
    "read_results",
    "results_json",
    "run_grid",
    "train_grid",
    "write_results",
]


def planned_grid(words: Sequence[str]) -> tuple[GridConfig, list[Cell]]:
    """The grid that the words name, and its pre-training runs. Raises UserError with all that is wrong."""
    own, others = _divided(words)
    grid = compose_grid(own)
    return grid, cells(grid, others)


def _divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words about the grid, and overrides of its runs."""
    own = [word for word in words if word.lstrip("+~").split("=")[0].split(".")[0] == "grid"]
    return own, [word for word in words if word not in own]


@dataclass(frozen=True)
class Ended:
    """A grid whose runs have ended: what they were, which of them failed, and the folder that holds them."""

    grid: GridConfig
    trained: list[Cell]
    tuned: list[Trial]
    failures: list[Failure]
    folder: Path

    def report_failures(self) -> int:
        """Say which runs failed; returns the exit code."""
        for failure in self.failures:
            print(f"isoflop: {failure.run.name}: {failure.text}", file=sys.stderr)
        return 1 if self.failures else 0


def run_grid(words: Sequence[str], *, jobs: int = 1, out: Path | None = None, as_json: bool = False) -> int:
    """Train what is not finished yet, then print the table and write it. Returns the exit code.

    The same command goes on where an earlier one was stopped; what had finished is not repeated.
    """
    ended = train_grid(words, jobs=jobs, out=out)
    if ended is None:
        return STOPPED
    results = read_results(ended.grid, ended.trained, ended.tuned)
    write_results(results, out or ended.folder, shlex.join(["isoflop", "grid", *words]))
    found = efficiencies(results)
    print(json.dumps(_json(results, found), indent=1) if as_json else format_results(results, found))
    return ended.report_failures()


def train_grid(words: Sequence[str], *, jobs: int = 1, out: Path | None = None) -> Ended | None:
    """Train and tune what is not finished yet; None where a signal stopped it, which is then said.

    out: a folder for what is written afterwards; where it cannot be made, that is said before the work.
    """
    from trainer.run.start import prepare_with_progress, start

    check_jobs(jobs)
    forget_names_of_one_run()
    grid, trained = planned_grid(words)
    folder = trained[0].run.folder.path.parent
    (out or folder).mkdir(parents=True, exist_ok=True)
    check_folders([cell.run for cell in trained])
    costs.into_root(trained[0].run.config)
    prepare_with_progress(trained[0].run.config)
    write_records(grid, _divided(words)[1], folder / ".tasks")
    warm_up()
    failures, stopped = run_all([cell.run for cell in trained], start, jobs=jobs)
    failed = {failure.run.name for failure in failures}
    tuned: list[Trial] = []
    if not stopped:
        usable = [cell for cell in trained if cell.run.name not in failed]
        with progress_bar() as progress:
            tuned = trials(grid, usable, folder / ".tasks", progress)
        check_folders([trial.run for trial in tuned])
        more, stopped = run_all([trial.run for trial in tuned], start, jobs=jobs)
        failures += more
        _score_what_was_left(tuned)
    if stopped:
        print(f"isoflop: stopped before the end; go on with: {same_again()}", file=sys.stderr)
        return None
    return Ended(grid, trained, tuned, failures, folder)


def _score_what_was_left(tuned: Sequence[Trial]) -> None:
    """A tuning run that was killed between its last step and its scores is scored now."""
    from trainer.evaluate.task_scores import score_task

    for trial in tuned:
        folder = trial.run.folder.path
        if finished(trial.run) and not (folder / "task.json").is_file():
            score_task(folder)


def write_results(results: Results, folder: Path, command: str) -> None:
    """grid.json, grid.md, grid.png and grid.svg."""
    from trainer.scaling.grid.picture import dots
    from trainer.scaling.grid.size_picture import scores_and_prices

    folder.mkdir(parents=True, exist_ok=True)
    found = efficiencies(results)
    svg, png = scores_and_prices(results) if results.sizes else dots(results)
    write_atomic(folder / "grid.svg", svg)
    write_atomic(folder / "grid.png", png)
    write_atomic(folder / "grid.md", markdown(results, command, found))
    write_atomic(folder / "grid.json", json.dumps(_json(results, found) | {"command": command}, indent=1) + "\n")


def _json(results: Results, found: Sequence[ObjectiveEfficiency]) -> dict[str, Any]:
    return results_json(results) | {"efficiency": efficiencies_json(results, found)}
