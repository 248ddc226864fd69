"""Batch jobs and job arrays under SLURM."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from trainer.descriptions.launchers import NodesDescription
from trainer.utils.schema import Paths, key
from trainer.utils.shell_values import Options, Text

TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d(:\d\d)?)?")


def _time(time: str) -> str:
    if not TIME.fullmatch(time):
        raise ValueError(f"{time!r} given; minutes, hours:minutes:seconds or days-hours:minutes:seconds wanted")
    return time


class Slurm(NodesDescription):
    name = "slurm"
    help = "a batch job, or with -m one array of jobs"
    implementation = "launch.slurm:SlurmLauncher"
    trains, queues, arrays = False, True, True

    class Keys(NodesDescription.Keys):
        starter: Literal["srun", "torchrun"] = key("srun", "srun: one task per rank; torchrun: one task per node")
        partition: str | None = key(None, "sbatch --partition")
        account: str | None = key(None, "sbatch --account")
        qos: str | None = key(None, "sbatch --qos")
        constraint: str | None = key(None, "sbatch --constraint")
        exclude: Paths = key((), "nodes that must not be used")
        time: Annotated[Text, AfterValidator(_time)] | None = key(
            None, "wall limit, minutes or [days-]hours:minutes:seconds; null: the partition's own"
        )
        gres: str | None = key(None, "sbatch --gres in place of --gpus-per-node, e.g. gpu:a100:8")
        memory: Text | None = key(None, "sbatch --mem, of every node, e.g. 200G; 0: all")
        cpus_per_rank: int | None = key(None, "sbatch --cpus-per-task", "CPUs", ge=1)
        sbatch: Options = key((), "more sbatch options, e.g. ['--exclusive','--comment=a b']")
        srun: Options = key((), "more srun options, e.g. ['--cpu-bind=cores']")
        requeues: int = key(
            10, "times that a job may be put back into the queue, for whatever reason", "requeues", ge=0
        )
        chain: int = key(1, "jobs that follow each other in the same run folder (--dependency=singleton)", "jobs", ge=1)
        array_limit: int | None = key(None, "of a sweep's array, jobs at once (%N)", "jobs", ge=1)
        container: Literal["pyxis", "apptainer"] | None = key(None, "how ranks enter a container; null: none")
        image: str | None = key(None, "container image")
        mounts: Paths = key((), "container mounts, host:container[:options]")

    def misfits(self, group: Any) -> list[str]:
        wrong = super().misfits(group)
        if group.container and not group.image:
            wrong.append(f"image: launch.container={group.container} needs one")
        if group.image and not group.container:
            wrong.append("image: say how to enter it, launch.container=pyxis or apptainer")
        if group.chain > 1 and group.array_limit is not None:
            wrong.append("array_limit: a chain is one run; a sweep is an array")
        return wrong
