"""A sweep's runs: one after the other, each in a process of its own, or as one job array."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from trainer.compose import sweep
from trainer.config import Config
from trainer.descriptions.launchers import LAUNCHERS
from trainer.run.child_process import apart
from trainer.run.start import described, launch, ready, start
from trainer.run_folder import RunFolder
from trainer.trackers.wandb_variables import forget_names_of_one_run, require_own_ids
from trainer.training.faults.output import outlive_readers
from trainer.training.faults.signals import Interrupted
from trainer.utils.command_line import command_line
from trainer.utils.errors import UserError
from trainer.utils.outcomes import STOPPED


def launch_many(words: list[str], *, dry_run: bool = False) -> int:
    """A sweep: one job array where the launcher has such, elsewhere one run after the other."""
    from launch import Resources, plan_array, show

    runs = _checked_sweep(words)
    if not LAUNCHERS[described(runs[0])[0].launch.name].arrays:
        return _one_after_the_other(runs, partial(launch, dry_run=dry_run))
    now = f"{datetime.now():%Y%m%d-%H%M%S}"
    if not any(word.startswith("run.id=") for word in words):  # runs that differ in machinery alone have one hash
        runs = [[*run, f"run.id={now}-{number:03}"] for number, run in enumerate(runs)]
    taken = [str(described(run)[1].path) for run in runs]
    if len(set(taken)) < len(taken):
        raise UserError(f"run.id: {len(taken)} runs of the sweep would share {taken[0]}; leave it out, or sweep it too")
    made = [described(run)[:2] if dry_run else ready(run) for run in runs]
    configs, folders = [config for config, _ in made], [folder.path for _, folder in made]
    folder = folders[0].parent.parent / "sweeps" / now
    if dry_run:
        show(plan_array(configs, folders, folder, Resources()))
        return 0
    submit(made, folder, folder.parent.parent)
    return 0


def submit(made: Sequence[tuple[Config, RunFolder]], folder: Path, below: Path) -> str:
    """Submit runs whose folders are frozen as one job array; returns its id.

    folder: of the array's script and logs. below: the folder of runs whose state `isoflop status` then shows."""
    from launch import submit_array

    job = submit_array([config for config, _ in made], [run.path for _, run in made], folder)
    print(f"submitted array {job}: {len(made)} runs; {command_line('status', str(below))}")
    return job


def start_many(words: list[str], *, as_json: bool = False) -> int:
    """One run after the other for every combination of swept values; all are checked before the first starts."""
    return _one_after_the_other(_checked_sweep(words), partial(start, as_json=as_json))


def _checked_sweep(words: list[str]) -> list[list[str]]:
    forget_names_of_one_run()
    parent = [word for word in words if word.startswith("from=")]
    runs = [[*parent, *run] for run in sweep([word for word in words if word not in parent])]
    wrong, configs = [], []
    for run in runs:
        try:
            configs.append(described(run)[0])
        except UserError as error:
            wrong += [f"{' '.join(run)}: {line}" for line in str(error).splitlines()]
    if wrong:
        raise UserError("\n".join(wrong))
    require_own_ids(configs)
    return runs


def _one_after_the_other(runs: list[list[str]], one: Callable[[list[str]], int]) -> int:
    outlive_readers()
    codes = []
    for number, run in enumerate(runs, 1):
        print(f"run {number}/{len(runs)}: {' '.join(run)}", file=sys.stderr, flush=True)
        try:
            codes.append(apart(partial(one, run)))
        except Interrupted:
            rest = len(runs) - number
            print(f"isoflop: stopped in run {number}/{len(runs)}; {rest} more were not started", file=sys.stderr)
            return STOPPED
    return max((abs(code) for code in codes), default=0)
