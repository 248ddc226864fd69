"""Verbs about many runs."""

from __future__ import annotations

import json
import sys

from trainer.errors import UserError
from trainer.verbs.words import split_flags, wants_help, whole_numbers

USAGE = """\
isoflop sweep ladder=<name> [ladder.key=value ...] [key=value ...] [jobs=1] [retries=1] [--plan] [--yes] [--json]
isoflop sweep key=value,value ... [jobs=1] ...      one run per combination, without a ladder

  jobs: runs at a time, which share the cores; retries: how often a run that failed is tried again, from its checkpoint
  --plan: the table of prices alone; --yes: start also where it is much work. The same command goes on where it ended
"""
ASK_ABOVE_FLOP = 1e15  # hours on a laptop


def sweep(arguments: list[str]) -> int:
    """Plan all runs, ask where that is much work, train those that are not finished, and tell what came of it."""
    words, flags = split_flags(arguments, "--plan", "--yes", "--json")
    if wants_help(flags, USAGE, ladder=True):
        return 0
    words, numbers = whole_numbers("sweep", words, jobs=1, retries=1)
    from trainer.books import flops, format_plans, plan, plans_json
    from trainer.scaling.ladder import planned_runs
    from trainer.scaling.sweep import train_all

    runs = planned_runs(words)
    tags = [(run.name, plan(run.config)) for run in runs]
    if "--plan" in flags:
        print(json.dumps(plans_json(tags), indent=1) if "--json" in flags else format_plans(tags))
        return 0
    print(format_plans(tags), file=sys.stderr)
    _ask(sum(flops(run.config).total for run in runs), len(runs), "--yes" in flags)
    return train_all(runs, **numbers, as_json="--json" in flags)


def _ask(flop: float, runs: int, agreed: bool) -> None:
    """Raise UserError unless this is little work, or somebody agrees to it."""
    if flop <= ASK_ABOVE_FLOP or agreed:
        return
    amount = f"{runs} runs of {flop:.3g} FLOP in all"
    if not sys.stdin.isatty():
        raise UserError(f"sweep: {amount}, more than {ASK_ABOVE_FLOP:g}: add --yes to start them")
    if input(f"start {amount}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("sweep: nothing was started")
