"""What a run folder keeps of each launch: `launches/1/`, `launches/2/` ... with configuration and code state."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from launch.plan import HOME
from trainer.descriptions.launchers import LAUNCHERS
from trainer.utils.bounded import parse_json
from trainer.utils.files import write_atomic
from trainer.utils.secrets import refuse_secrets, without_secrets


@dataclass(frozen=True)
class LaunchRecord:
    """Who holds the run now: a process of the launching host, or jobs in a queue."""

    launcher: str  # its name
    time: float  # seconds since the epoch
    host: str  # where the command ran
    process: int | None = None  # the launcher's process id, where it stays
    jobs: tuple[str, ...] = ()  # ids of jobs in its queue; of SLURM 12, or 12_3 for a task of an array
    refused: str | None = None  # why nothing was started, in the words of whoever refused it


def new_launch(run: Path) -> Path:
    """A fresh folder for the next launch of this run, not made yet."""
    return run / "launches" / str(max(_numbers(run), default=0) + 1)


def _numbers(run: Path) -> list[int]:
    return [int(path.name) for path in (run / "launches").glob("*") if path.name.isdigit()]


def read_launch(run: Path) -> LaunchRecord | None:
    """The newest launch of a run that was written down."""
    for number in sorted(_numbers(run), reverse=True):
        try:
            kept = parse_json((run / "launches" / str(number) / "launch.json").read_text())
            record = LaunchRecord(**{**kept, "jobs": tuple(kept["jobs"])})
            if _sound(record):
                return record
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return None


def _sound(record: LaunchRecord) -> bool:
    """Whether a file that anybody can edit names jobs and a process as they are written: these are ended by name."""
    process = record.process
    if not isinstance(record.time, int | float):
        return False
    if record.launcher not in LAUNCHERS or not (process is None or (type(process) is int and process > 1)):
        return False
    launcher = LAUNCHERS.implementation(record.launcher)()
    said = record.refused is None or isinstance(record.refused, str)
    return said and all(isinstance(job, str) and launcher.is_job(job) for job in record.jobs)


def write_launch(
    folder: Path, launcher: str, *, jobs: tuple[str, ...] = (), stays: bool = False, refused: str | None = None
) -> None:
    """Write down who was started, or why nobody was. `stays`: this process ends with the run."""
    folder.mkdir(parents=True, exist_ok=True)
    said = None if refused is None else without_secrets(refused)
    record = LaunchRecord(launcher, time.time(), socket.gethostname(), os.getpid() if stays else None, jobs, said)
    write_atomic(folder / "launch.json", json.dumps(asdict(record), indent=1))


def keep_state(folder: Path, config_yaml: str) -> None:
    """The configuration as resolved, the commit and what differs from it. No secret of the environment gets in."""
    folder.mkdir(parents=True, exist_ok=True)
    refuse_secrets({"config.yaml": config_yaml})
    write_atomic(folder / "config.yaml", config_yaml)
    write_atomic(folder / "code.json", json.dumps({"commit": _git("rev-parse", "HEAD"), "folder": str(HOME)}, indent=1))
    difference = _git("diff", "HEAD")
    if difference:
        write_atomic(folder / "code.diff", without_secrets(difference) + "\n")


def _git(*words: str) -> str | None:
    command = ["git", "-C", str(HOME), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
