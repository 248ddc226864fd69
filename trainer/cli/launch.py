"""Verbs about many nodes: start runs there, look at them, end them, and check the nodes first."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.cli.arguments import split_flags, wants_help
from trainer.cli.show_config import FLAGS, shown, take_values
from trainer.utils.errors import UserError


def launch(arguments: list[str]) -> int:
    words, flags = split_flags(take_values(arguments), "--dry-run", "-m", "--multirun", *FLAGS)
    if wants_help(
        flags, "isoflop launch [key=value ...] launch=local|torchrun|slurm [--dry-run] [-m] [--cfg|--info]\n", words
    ):
        return 0
    from trainer.run.many_runs import launch_many
    from trainer.run.start import launch as launch_one

    if shown(words, flags):
        return 0
    start = launch_many if flags & {"-m", "--multirun"} else launch_one
    return start(words, dry_run="--dry-run" in flags)


def status(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if flags & {"--help", "-h"}:
        print("isoflop status [root] [--json]: every run of a root, with its SLURM state, speed and price so far")
        return 0
    from launch.status import print_status, read_status, status_json

    if len(words) > 1:
        raise UserError(f"status: name one root of runs, got {' '.join(words)}")
    runs = read_status(Path(words[0] if words else "runs"))
    if "--json" in flags:
        print(json.dumps(status_json(runs), indent=1))
    else:
        print_status(runs)
    return 0


def cancel(arguments: list[str]) -> int:
    words, flags = split_flags(arguments)
    if flags & {"--help", "-h"}:
        print(
            "isoflop cancel <run> ...: cancel its SLURM jobs, or ask the process that trains it here to save and stop"
        )
        return 0
    from launch.status import cancel as cancel_one
    from trainer.run_folder import find_run

    if not words:
        raise UserError("cancel: name one run or more, e.g. isoflop cancel runs/<experiment>/<id>")
    for run in [find_run(word, "runs").path for word in words]:
        print(f"{run}: {cancel_one(run)}")
    return 0


def preflight(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(
        flags,
        "isoflop preflight [key=value ...] [--json]: check this host, or with launch=slurm|torchrun every node that a "
        "launch of these words would use, and train nothing\n",
        words,
    ):
        return 0
    from launch.check import check
    from trainer.compose import compose

    return check(compose(words), as_json="--json" in flags)
