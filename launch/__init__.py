"""From (config, resources) to processes: on this host, over torchrun's nodes, or under SLURM.

`plan_launch` and `plan_array` say what would be written and run, and touch nothing; `run_launch` and `submit_array`
do it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from launch.local import run_local
from launch.nodes import plan_nodes, start_over_ssh
from launch.plan import Command, LaunchPlan, Resources
from launch.records import keep_state, new_launch, refuse_secrets, write_launch
from launch.slurm import plan_array, plan_job
from launch.submit import require_slurm, submit
from trainer.config import Config
from trainer.utils.files import write_atomic

__all__ = [
    "Command",
    "LaunchPlan",
    "Resources",
    "plan_array",
    "plan_launch",
    "require_slurm",
    "run_launch",
    "run_local",
    "show",
    "submit_array",
]


def plan_launch(config: Config, run: Path, place: Resources | None = None) -> LaunchPlan:
    """What a launch of `config` in the folder `run` would write and run. `run` need not exist."""
    place = place or Resources()
    if config.launch.name == "slurm":
        return plan_job(config, run, place, new_launch(run) / "job.sh")
    if config.launch.name == "torchrun":
        return plan_nodes(config, run, place)
    return LaunchPlan((Command((place.python, "-m", "trainer", "train", f"resume={run}")),))


def show(plan: LaunchPlan) -> None:
    """Print what would be written and run. Raises UserError where a secret would be written down."""
    refuse_secrets({"the launch": plan.text})
    print(plan.text, end="")


def run_launch(config: Config, run: Path) -> int:
    """Launch a run whose folder is frozen. Waits where the run is here or behind ssh; returns an exit code.

    Raises UserError where SLURM refuses, in its own words, or where a secret would be written down.
    """
    folder, plan, launcher = new_launch(run), plan_launch(config, run), config.launch.name
    refuse_secrets({"the launch": plan.text})
    keep_state(folder, config.to_yaml())
    if launcher == "slurm":
        (run / "logs").mkdir(exist_ok=True)
        jobs = submit(plan)
        write_launch(folder, launcher, jobs=jobs)
        print(f"submitted job {' '.join(jobs)}; isoflop status {shlex.quote(str(run.parent.parent))}")
        return 0
    if config.launch.is_here:
        write_launch(folder, launcher, stays=True)
        return run_local(config, run)
    if config.launch.ssh:
        write_launch(folder, launcher, stays=True)
        return start_over_ssh(plan, config.launch)
    write_launch(folder, launcher)
    show(plan)
    return 0


def submit_array(configs: Sequence[Config], runs: Sequence[Path], folder: Path) -> str:
    """Submit runs whose folders are frozen as one job array; its script and logs go to `folder`. Returns the job id."""
    plan = plan_array(configs, runs, folder, Resources())
    refuse_secrets({"the launch": plan.text})
    for run in runs:
        (run / "logs").mkdir(exist_ok=True)
    (job,) = submit(plan)
    for number, (config, run) in enumerate(zip(configs, runs, strict=True)):
        kept = new_launch(run)
        keep_state(kept, config.to_yaml())
        write_atomic(kept / "job.sh", plan.files[folder / "job.sh"])
        write_launch(kept, "slurm", jobs=(f"{job}_{number}" if len(runs) > 1 else job,))
    return job
