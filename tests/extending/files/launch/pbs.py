"""PBS: a script for qsub, and what qstat and qdel say of the job."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from launch.launcher import JobState, Launcher
from launch.plan import Command, LaunchPlan, Resources
from launch.quoting import quote
from launch.records import write_launch
from trainer.config import Config
from trainer.utils.command_line import command_line
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

WORDS = {"Q": "pending", "R": "running", "E": "ending"}


class PbsLauncher(Launcher):
    """launch.name=pbs."""

    def plan(self, config: Config, run: Path, place: Resources, folder: Path) -> LaunchPlan:
        script = folder / "job.pbs"
        lines = [
            "#!/usr/bin/env bash",
            *[f"#PBS {option}" for option in config.launch.pbs],
            f"export PYTHONPATH={quote(str(place.home), 'the folder of isoflop')}",
            f"cd {quote(str(place.folder), 'the working directory')} || exit 2",
            shlex.join([place.python, "-P", "-m", "launch.agent", str(run)]),
        ]
        return LaunchPlan((Command(("qsub", str(script))),), {script: "\n".join(lines) + "\n"})

    def start(self, config: Config, run: Path, plan: LaunchPlan, folder: Path) -> int:
        for path, text in plan.files.items():
            write_atomic(path, text)
        job = _said(*plan.commands[0].words).strip()
        write_launch(folder, config.launch.name, jobs=(job,))
        print(f"submitted job {job}; {command_line('status', str(run.parent.parent))}")
        return 0

    def is_job(self, word: str) -> bool:
        return re.fullmatch(r"\d+(\.[\w.-]+)?", word) is not None

    def states(self, jobs: Sequence[str]) -> dict[str, JobState]:
        lines = [line.split() for line in _said("qstat", *jobs).splitlines()] if jobs else []
        return {job: JobState(WORDS.get(state, "ended"), state in WORDS) for job, state in lines}

    def cancel(self, jobs: Sequence[str]) -> None:
        _said("qdel", *jobs)

    def preflight(self, config: Config, run: Path) -> int:
        raise UserError("preflight: a job of PBS checks its node itself, with launch.preflight=true")


def _said(*words: str) -> str:
    """Standard output of a program of PBS. Raises UserError in its own words."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{words[0]}: {' '.join(done.stderr.split())}")
    return done.stdout
