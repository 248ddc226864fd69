"""One rank under srun: SLURM's names of its place become torch's."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from trainer.config.host import cores
from trainer.config.placement import groups
from trainer.meter.process import begin
from trainer.plugins import load as load_plugins
from trainer.report import report_attempt, reserve_ledger
from trainer.training.faults.output import outlive_readers
from trainer.training.faults.reporting import report_failure
from trainer.utils.errors import UserError
from trainer.utils.outcomes import BAD_INPUT, DONE, FAILED, HALTED, STOPPED
from trainer.worker import work


def place(environment: Mapping[str, str], processes: int) -> dict[str, str]:
    """The variables that torch reads, from those that srun sets, with `processes` tasks on every node."""
    return {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "WORLD_SIZE": environment["SLURM_NTASKS"],
        "LOCAL_WORLD_SIZE": str(processes),
        "GROUP_RANK": environment["SLURM_NODEID"],
    }


def scattered(environment: Mapping[str, str], processes: int) -> str | None:
    """What is wrong where ranks are not numbered node by node, as groups of consecutive ones rely on."""
    rank, local, node = (int(environment[name]) for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"))
    if rank == node * processes + local:
        return None
    return (
        f"launch.srun: rank {rank} is task {local} of node {node}, which has {processes}: ranks that share sequences, "
        "experts or weights are numbered node by node; leave --distribution as the script sets it, block"
    )


def take_place(run: Path) -> None:
    """Set them for this process, unless torchrun did. Raises UserError where a plugin or the run cannot be loaded, and
    where groups of ranks would be torn."""
    from trainer.run_folder import RunFolder

    load_plugins()
    if "RANK" not in os.environ and "SLURM_PROCID" in os.environ:
        config = RunFolder(run).load_config()
        os.environ.update(place(os.environ, config.launch.processes))
        if groups(config) and (said := scattered(os.environ, config.launch.processes)):
            raise UserError(said)
        if cores() < int(os.environ.get("SLURM_CPUS_ON_NODE", 0)):  # srun gave this task processors of its own
            os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def main(run: Path) -> int:
    """Train this task's share; the first one writes the report. Returns the exit code."""
    outlive_readers()
    try:
        take_place(run)
    except UserError as error:
        report_failure(str(error), user=True)
        return BAD_INPUT
    first = os.environ.get("RANK", "0") == "0"
    try:
        if first:
            reserve_ledger(run)
    except UserError as error:
        report_failure(str(error), user=True)
        return FAILED
    code = work(run)
    if first and code in (DONE, FAILED, HALTED, STOPPED):
        report_attempt(run, code)
    return code


if __name__ == "__main__":
    begin(reads_host=os.environ.get("SLURM_LOCALID", "0") == "0")
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # library threads must not turn a finished run into an abort
