"""`isoflop lab`: a decoder, an encoder and an encoder-decoder at equal compute, in so many minutes on two cores."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from trainer.compose import change, compose_grid
from trainer.config import GridConfig
from trainer.config.host import threads
from trainer.scaling.grid import format_plan, planned_grid, read_results, train_grid, write_results
from trainer.scaling.grid.lab_table import format_lab, lab_json, lab_markdown, read_lab
from trainer.scaling.grid.plan import Cell
from trainer.scaling.sweep import check_jobs
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import STOPPED

PRESET = "lab"  # conf/grid/lab.yaml, whose budgets are those of MINUTES
MINUTES = 10.0
LEAST_STEPS = 4  # of a tuning run


def lab_words(words: Sequence[str], minutes: float | None) -> list[str]:
    """The words of the grid that the lab is. Raises UserError for those that name another one.

    minutes: of two cores; the budgets follow from it alone, so that the same words mean the same runs everywhere.
    """
    grids = [word for word in words if word.partition("=")[0] == "grid"]
    if any(word != f"grid={PRESET}" for word in grids):
        raise UserError(f"{grids[0]}: the lab is grid={PRESET}; another grid is trained by isoflop grid {grids[0]}")
    given = {word.lstrip("+").partition("=")[0] for word in words}
    budgets = sorted(given & {"grid.flop", "grid.kwh", "grid.tokens", "grid.tokens_per_parameter"})
    if minutes is not None and budgets:
        raise UserError(f"minutes: {budgets[0]} states the budget too; give one of them")
    own: dict[str, str] = {}
    if not budgets:
        minutes = MINUTES if minutes is None else minutes
        preset, share = compose_grid([f"grid={PRESET}"]), minutes / MINUTES
        own["grid.name"] = f"{PRESET}-{minutes:g}min"
        own["grid.flop"] = str(round(share * preset.amount()[1]))
        own["grid.tuning"] = json.dumps([_shorter(word, share) for word in preset.tuning])
    stated = [f"{name}={value}" for name, value in own.items() if name not in given]
    return [f"grid={PRESET}", *stated, *(word for word in words if word not in grids)]


def _shorter(word: str, share: float) -> str:
    """A word of the tuning runs, with that share of the steps."""
    name, _, value = word.partition("=")
    return f"{name}={max(LEAST_STEPS, round(share * int(value)))}" if name == "budget.steps" else word


def plan_lab(words: Sequence[str], minutes: float | None, *, jobs: int) -> str:
    """The runs and their FLOPs, and how long pre-training them takes by the plan of this host, where that is known."""
    from trainer.books import plan
    from trainer.books.formatting import format_amount

    check_jobs(jobs)
    grid, cells = _planned(words, minutes)
    configs = [change(cell.run.config, [f"engine.threads={threads(cell.run.config, sharing=jobs)}"]) for cell in cells]
    times = [plan(config)["time.wall"].planned for config in configs]
    known = [one.value for one in times if one is not None and one.value is not None]
    said = format_amount(sum(known) / jobs, "s") if len(known) == len(cells) else "not known before a first run here"
    return f"{format_plan(grid, cells)}\npre-training on this host with jobs={jobs}, by the plan: {said}"


def _planned(words: Sequence[str], minutes: float | None) -> tuple[GridConfig, list[Cell]]:
    """The runs. Raises UserError with all that is wrong; of too few minutes in their own word."""
    try:
        return planned_grid(lab_words(words, minutes))
    except UserError as error:
        if minutes is None or any("one step takes" not in line for line in str(error).splitlines()):
            raise
        raise UserError(f"minutes: {minutes:g} given, too few for one step of each model; e.g. minutes=1") from None


def run_lab(
    words: Sequence[str], minutes: float | None, *, jobs: int, out: Path | None = None, as_json: bool = False
) -> int:
    """Train and tune what is not finished yet, then print the table and write it: lab.md and lab.json, and what a grid
    writes. Returns the exit code. The same command goes on where an earlier one was stopped."""
    _planned(words, minutes)
    wanted = lab_words(words, minutes)
    ended = train_grid(wanted, jobs=jobs, out=out)
    if ended is None:
        return STOPPED
    folder, results = out or ended.folder, read_results(ended.grid, ended.trained, ended.tuned)
    write_results(results, folder, shlex.join(["isoflop", "grid", *wanted]))
    lab = read_lab(ended, results)
    own = [] if minutes is None else [f"minutes={minutes:g}"]
    command = shlex.join(["isoflop", "lab", *own, *words])
    write_atomic(folder / "lab.md", lab_markdown(lab, command))
    write_atomic(folder / "lab.json", json.dumps(lab_json(lab) | {"command": command}, indent=1) + "\n")
    print(json.dumps(lab_json(lab), indent=1) if as_json else format_lab(lab))
    return ended.report_failures()
