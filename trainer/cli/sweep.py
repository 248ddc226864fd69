"""Verbs about many runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.cli.arguments import split_flags, wants_help, whole_numbers
from trainer.utils.errors import UserError

if TYPE_CHECKING:
    from trainer.scaling.ladder import PlannedRun

USAGE = """\
isoflop sweep ladder=<name> [ladder.key=value ...] [key=value ...] [jobs=1] [retries=1] [--plan] [--yes] [--json]
isoflop sweep key=value,value ... [jobs=1] ...      one run per combination, without a ladder
isoflop sweep search=optuna [trials=20] 'key=interval(low,high)' ...    settings that lower the held-out loss

  jobs: runs at a time, which share the cores; retries: how often a run that failed is tried again, from its checkpoint
  --plan: the table of prices alone; --yes: start also where it is much work. The same command goes on where it ended
"""
ASK_ABOVE_FLOP = 1e15  # hours on a laptop


def sweep(arguments: list[str]) -> int:
    """Plan all runs, ask where that is much work, train those that are not finished, and tell what came of it."""
    words, flags = split_flags(arguments, "--plan", "--yes", "--json")
    if wants_help(flags, USAGE, words, ladder=True):
        return 0
    from trainer.scaling.sweep import check_jobs

    words, numbers = whole_numbers("sweep", words, jobs=1, retries=1)
    check_jobs(numbers["jobs"])
    if any(word.startswith(("search=", "trials=")) for word in words):
        return _search(words, numbers, flags)
    from trainer.books.branch import own_flop
    from trainer.scaling.ladder import planned_runs
    from trainer.scaling.sweep import train_all

    runs = planned_runs(words)
    if _planned(runs, flags):
        return 0
    _ask(sum(own_flop(run.config) for run in runs), f"{len(runs)} runs", "--yes" in flags)
    return train_all(runs, **numbers, as_json="--json" in flags)


def _search(words: list[str], numbers: dict[str, int], flags: set[str]) -> int:
    """The same where the runs are proposed one after another: the plan shows the first, drawn at random."""
    from trainer.books import flops
    from trainer.scaling.search import read_space, search

    words, given = whole_numbers("sweep", words, trials=20)
    kinds = [word.partition("=")[2] for word in words if word.startswith("search=")]
    if not kinds:
        raise UserError("trials: only a search counts them; add search=optuna")
    space = read_space(kinds[-1], given["trials"], [word for word in words if not word.startswith("search=")])
    sample = space.sample(given["trials"])
    if _planned(sample, flags):
        return 0
    mean = sum(flops(run.config).total for run in sample) / len(sample)
    _ask(mean * given["trials"], f"{given['trials']} trials (by the first {len(sample)})", "--yes" in flags)
    return search(space, given["trials"], **numbers, as_json="--json" in flags)


def _planned(runs: Sequence[PlannedRun], flags: set[str]) -> bool:
    """Print the table of prices; whether it was all that is wanted."""
    from trainer.books import format_plans, plan_row, plans_json

    rows = [plan_row(run.name, run.config) for run in runs]
    for note in dict.fromkeys(note for run in runs for note in run.notes):
        print(note, file=sys.stderr)
    if "--plan" in flags:
        print(json.dumps(plans_json(rows), indent=1) if "--json" in flags else format_plans(rows))
        return True
    print(format_plans(rows), file=sys.stderr)
    return False


def _ask(flop: float, runs: str, agreed: bool) -> None:
    """Raise UserError unless this is little work, or the user agrees to it."""
    if flop <= ASK_ABOVE_FLOP or agreed:
        return
    amount = f"{runs} of {flop:.3g} FLOP in all"
    if not sys.stdin.isatty():
        raise UserError(f"sweep: {amount}, more than {ASK_ABOVE_FLOP:g}: add --yes to start them")
    if input(f"start {amount}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("sweep: nothing was started")
