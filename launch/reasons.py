"""Why a run was refused, waits or failed, in one line, from its folder and its queue."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from launch.launcher import JobState
from launch.records import LaunchRecord
from trainer.report import NOT_STARTED, RunData
from trainer.utils.outcomes import Status

TAIL_BYTES = 64 * 1024  # of a log, in which the last error is looked for
LOGS = ("slurm-*.out", "*.out", "*/attempt_*/*/stderr.log")  # under logs/: a job's own, then those of its ranks
ENDED_BADLY = (Status.FAILED, Status.HALTED, Status.INTERRUPTED)
BEGINNINGS = ("start", "resume")
# Lines that tell of an error: ours, the last one of a traceback, and those of SLURM's daemons.
ERROR = re.compile(r"isoflop: |(slurmstepd|srun|slurm_script): error: |[A-Za-z_][\w.]*(Error|Exception|Timeout)\b")


def reason_of(run_data: RunData, launch: LaunchRecord | None, jobs: Sequence[JobState], state: str) -> str | None:
    """Why the newest launch was refused, why its job waits, or the last error of a run that failed; else None."""
    live = [job.reason for job in jobs if job.live]
    if live:
        return next(filter(None, live), None)
    if launch is not None and is_refused(run_data, launch):
        return launch.refused
    queued = next((job.reason for job in jobs if job.reason), None)
    if state in ENDED_BADLY:
        return _last_error(run_data) or _in_logs(run_data.run) or queued
    never_ran = state == NOT_STARTED or not run_data.events
    return (_in_logs(run_data.run) or queued) if never_ran and jobs else None


def is_refused(run_data: RunData, launch: LaunchRecord) -> bool:
    """Whether the newest launch was refused, and nothing has run since."""
    when = run_data.events[-1].get("time") if run_data.events else None
    return launch.refused is not None and not (isinstance(when, int | float) and when > launch.time)


def _last_error(run_data: RunData) -> str | None:
    """What the logbook says of the end of the newest attempt: what broke it, else how it was ended."""
    ends: dict[str, str] = {}
    for event in reversed(run_data.events):
        name, text = event.get("name"), event.get("text")
        if name in BEGINNINGS:
            break
        if isinstance(text, str) and name in ("lost", Status.FAILED, Status.HALTED):
            ends.setdefault(name, text.removeprefix(f"{name}: "))
    return next((ends[name] for name in ("lost", Status.FAILED, Status.HALTED) if name in ends), None)


def _in_logs(run: Path) -> str | None:
    """The last line of the newest log that tells of an error; None where none does."""
    for pattern in LOGS:
        logs = [log for log in (run / "logs").glob(pattern) if log.is_file()]
        for log in sorted(logs, key=lambda log: log.stat().st_mtime, reverse=True):
            lines = [line.strip() for line in _tail(log).splitlines()]
            if found := [line.removeprefix("isoflop: ") for line in lines if ERROR.match(line)]:
                return found[-1][:300]
    return None


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""
