"""From (config, resources) to processes: on this host, over torchrun's nodes, or under SLURM.

`plan_launch` and `plan_array` say what would be written and run, and touch nothing; `run_launch` and `submit_array`
do it. What a launcher does itself is in its own file, behind one interface (launch/launcher.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from launch.launcher import launcher_of, show
from launch.local import run_local
from launch.plan import Command, LaunchPlan, Resources
from launch.records import keep_state, new_launch, write_launch
from trainer.config import Config
from trainer.utils.errors import UserError
from trainer.utils.secrets import refuse_secrets

__distribution__ = "isoflop"

__all__ = [
    "Command",
    "LaunchPlan",
    "Resources",
    "launcher_of",
    "plan_array",
    "plan_launch",
    "run_launch",
    "run_local",
    "show",
    "submit_array",
]


def plan_launch(config: Config, run: Path, place: Resources | None = None) -> LaunchPlan:
    """What a launch of `config` in the folder `run` would write and run. `run` need not exist."""
    return launcher_of(config.launch.name).plan(config, run, place or Resources(), new_launch(run))


def run_launch(config: Config, run: Path) -> int:
    """Launch a run whose folder is frozen. Waits where the run is here or behind ssh; returns an exit code.

    Raises UserError where a queue refuses, in its own words, which the launch's folder keeps, or where a secret would
    be written down.
    """
    folder, plan = new_launch(run), plan_launch(config, run)
    refuse_secrets({"the launch": plan.text})
    keep_state(folder, config.to_yaml())
    launcher = launcher_of(config.launch.name)
    with refusal_kept(config.launch.name, [folder]):
        return launcher.start(config, run, plan, folder)


def plan_array(configs: Sequence[Config], runs: Sequence[Path], folder: Path, place: Resources) -> LaunchPlan:
    """A sweep as one job array, one run folder a task. Raises UserError where runs ask for different resources.

    The script and the logs of the batch shells go to `folder`; a rank's log goes to its run folder.
    """
    different = [str(run) for config, run in zip(configs, runs, strict=True) if config.launch != configs[0].launch]
    if different:
        raise UserError(
            f"launch: an array's runs share their resources, and {different[0]} asks for others than {runs[0]}"
        )
    return launcher_of(configs[0].launch.name).plan_array(configs, runs, folder, place)


def submit_array(configs: Sequence[Config], runs: Sequence[Path], folder: Path) -> str:
    """Submit runs whose folders are frozen as one job array; its script and logs go to `folder`. Returns the job id."""
    plan = plan_array(configs, runs, folder, Resources())
    refuse_secrets({"the launch": plan.text})
    for run in runs:
        (run / "logs").mkdir(exist_ok=True)
    launcher = launcher_of(configs[0].launch.name)
    with refusal_kept(configs[0].launch.name, [new_launch(run) for run in runs]):
        return launcher.submit_array(configs, runs, plan, folder)


@contextlib.contextmanager
def refusal_kept(launcher: str, folders: Sequence[Path]) -> Iterator[None]:
    """What refuses a launch in here is written down in the folders of that launch, where `isoflop status` finds it."""
    try:
        yield
    except UserError as error:
        for folder in folders:
            write_launch(folder, launcher, refused=str(error))
        raise
