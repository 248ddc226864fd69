"""SLURM's programs, called with care: what they refuse is told in their own words."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from launch.plan import LaunchPlan
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

POLL_SECONDS = 2.0  # between two queries of the queue
ABSENT_POLLS = 3  # queries in a row that did not find the job: it has ended
# Variables that sbatch takes in place of options of the script (sbatch(1), input environment variables).
UNDOING = {
    f"SBATCH_{name}"
    for name in (
        *("ARRAY_INX", "EXPORT", "NO_REQUEUE", "OPEN_MODE", "OUTPUT", "REQUEUE", "SIGNAL", "TIMELIMIT", "WAIT"),
        *("GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK", "GRES", "NODES", "NTASKS"),
    )
}
JOB = re.compile(r"[0-9]+(_[0-9]+)?")  # 12, or 12_3 for a task of an array


def require_slurm() -> None:
    """Raise UserError where no job can be submitted from."""
    if shutil.which("sbatch") is None:
        raise UserError("launch=slurm: there is no sbatch on the path; log in to a host of the cluster, or --dry-run")


def submit(plan: LaunchPlan) -> tuple[str, ...]:
    """Write the plan's scripts and run its sbatch commands; returns job ids. Raises UserError in sbatch's own words."""
    require_slurm()
    for path, text in plan.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    environment = {name: value for name, value in os.environ.items() if name not in UNDOING}
    for name in sorted(UNDOING & os.environ.keys()):
        print(f"isoflop: {name} is kept from sbatch: it would undo what the batch script says", file=sys.stderr)
    jobs: list[str] = []
    for command in plan.commands:
        done = subprocess.run(command.words, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise UserError(" ".join(f"sbatch: {_own_words(done.stderr)}{_taken_back(jobs)}".split()))
        job = done.stdout.strip().split(";")[0]
        if not JOB.fullmatch(job):
            raise UserError(f"sbatch: answered {done.stdout!r}, which names no job; see squeue whether there is one")
        jobs.append(job)
    return tuple(jobs)


def _taken_back(jobs: list[str]) -> str:
    """Cancel the first jobs of a chain whose next one was refused; what to say of it."""
    if not jobs:
        return ""
    cancel_jobs(jobs)
    return f"; cancelled the chain's job{'s' * (len(jobs) > 1)} {' '.join(jobs)} that had been submitted before"


def _own_words(text: str) -> str:
    return re.sub(r"\w+: (error|fatal): ", "", text).strip() or "refused without a word"


LIVE = ("running", "pending", "configuring", "completing", "suspended", "requeued")


def is_live(state: str) -> bool:
    """Whether a job in this state runs or will run."""
    return state.startswith(LIVE)


# What a job waits for that will not come by itself, as squeue calls it (squeue(1), job reason codes).
STUCK = {
    "PartitionTimeLimit": "launch.time is more than the partition allows",
    "PartitionNodeLimit": "launch.nodes is more than the partition allows",
    "PartitionDown": "the partition takes no jobs now",
    "PartitionInactive": "the partition takes no jobs now",
    "BadConstraints": "no node has what launch.constraint, launch.memory and launch.gres ask for",
    "InvalidAccount": "launch.account",
    "InvalidQOS": "launch.qos",
    "DependencyNeverSatisfied": "a job that had to end well before it did not",
    "JobHeldUser": "scontrol release starts it",
    "JobHeldAdmin": "only an administrator releases it",
    "JobHoldMaxRequeue": "it was put back too often; scontrol release starts it",
}


def job_states(jobs: Sequence[str]) -> dict[str, tuple[str, str]]:
    """SLURM's word for the state of each job that it still knows, and its reason or "". Empty without SLURM."""
    if not jobs or shutil.which("squeue") is None:
        return {}
    words = ["squeue", "--noheader", "--states=all", "--array", "--format=%i %T %r"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return {}
    found = {}
    for line in done.stdout.splitlines():
        job, state, reason = [*line.split(maxsplit=2), "", "", ""][:3]
        reason = "" if reason == "None" else reason
        found[job] = (state.lower() + (f" ({reason})" if state == "PENDING" and reason else ""), reason)
    return {job: found[job] for job in jobs if job in found}


def wait_for(job: str) -> None:
    """Return once a job has ended."""
    absent = 0
    while absent < ABSENT_POLLS:
        time.sleep(POLL_SECONDS)
        state, _ = job_states([job]).get(job, (None, ""))
        if state is not None and not is_live(state):
            return
        absent = absent + 1 if state is None else 0


def cancel_jobs(jobs: Sequence[str]) -> None:
    """Cancel SLURM jobs. Raises UserError in scancel's own words."""
    if shutil.which("scancel") is None:
        raise UserError("cancel: there is no scancel on the path; log in to a host of the cluster")
    if wrong := [job for job in jobs if not JOB.fullmatch(job)]:
        raise UserError(f"cancel: {wrong[0]!r} is no id of a job; see squeue, and scancel it")
    done = subprocess.run(["scancel", *jobs], capture_output=True, text=True)
    if done.returncode:
        raise UserError(" ".join(f"scancel: {_own_words(done.stderr)}".split()))
