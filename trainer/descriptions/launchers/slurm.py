"""Batch jobs and job arrays under SLURM."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from trainer.descriptions.launchers import NodesDescription
from trainer.utils.schema import Paths, key
from trainer.utils.shell_values import Options, Text
from trainer.utils.slurm_options import (
    SBATCH,
    SBATCH_LETTERS,
    SRUN,
    SRUN_LETTERS,
    gpus_of,
    minutes,
    option_name,
    twice,
    undoing,
)

TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d(:\d\d)?)?")


def _time(time: str) -> str:
    if not TIME.fullmatch(time):
        raise ValueError(f"{time!r} given; minutes, hours:minutes:seconds or days-hours:minutes:seconds wanted")
    return time


def _mail(address: str) -> str:
    if not re.fullmatch(r"[\w.+-]+(@[\w-]+(\.[\w-]+)*)?", address):
        raise ValueError(f"{address!r} given; one address such as ada@example.org, or a user of the cluster, wanted")
    return address


def _memory(memory: str) -> str:
    if not re.fullmatch(r"\d+[KMGTP]?", memory, re.IGNORECASE):
        raise ValueError(f"{memory!r} given; a whole number with K, M, G or T wanted, e.g. 200G, or 0 for all")
    return memory


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
        memory: Annotated[Text, AfterValidator(_memory)] | None = key(
            None, "sbatch --mem, of every node, e.g. 200G; 0: all"
        )
        cpus_per_rank: int | None = key(
            None,
            "sbatch --cpus-per-task; null: of a job with GPUs its share of a node's, as sinfo tells it",
            "CPUs",
            ge=1,
        )
        mail: Annotated[Text, AfterValidator(_mail)] | None = key(
            None, "whom SLURM writes to when the job ends, fails or is put back into the queue", introduced=None
        )
        comment: Text | None = key(None, "sbatch --comment, for the cluster's accounts", introduced=None)
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
        return wrong + self._undone(group)

    @staticmethod
    def _undone(group: Any) -> list[str]:
        """Options that SLURM would take in place of what the script relies on, and what contradicts itself."""
        wrong = [f"sbatch: {line}" for line in undoing(group.sbatch, SBATCH, SBATCH_LETTERS)]
        wrong += [f"srun: {line}" for line in undoing(group.srun, SRUN, SRUN_LETTERS)]
        wrong += [f"sbatch: {line}" for line in twice(group.sbatch, group.__dict__)]
        if group.chain > 1:
            named = [one for one in group.sbatch if option_name(one, SBATCH_LETTERS, ["dependency"])[0] == "dependency"]
            wrong += [f"sbatch: {one}: a chain has a dependency of its own, singleton" for one in named]
        gpus = gpus_of(group.gres) if group.gres else None
        if gpus is not None and group.gpus_per_node not in (None, gpus):
            wrong.append(f"gres: {group.gres} asks for {gpus} GPUs, launch.gpus_per_node is {group.gpus_per_node}")
        elif gpus is not None and gpus < group.processes:
            wrong.append(
                f"gres: {group.gres} asks for {gpus} GPUs, fewer than launch.processes={group.processes} ranks"
            )
        if group.time and 0 < 60 * minutes(group.time) <= group.save_seconds:
            wrong.append(
                f"time: {group.time} is over before launch.save_seconds={group.save_seconds} have begun: "
                f"nothing would be trained"
            )
        return wrong
