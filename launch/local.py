"""The ranks of a run on this host: in this process, or as torchrun's workers."""

from __future__ import annotations

import os
from pathlib import Path

from launch.launcher import Launcher
from launch.plan import Command, LaunchPlan, Resources
from launch.records import write_launch
from trainer.config import Config
from trainer.meter.costs import handed_over
from trainer.plugins import named_again
from trainer.utils.outcomes import DONE
from trainer.worker import work


class LocalLauncher(Launcher):
    """launch=local."""

    def plan(self, config: Config, run: Path, place: Resources, folder: Path) -> LaunchPlan:
        words = (place.python, "-P", "-m", "trainer", "train", f"resume={run}", *named_again())
        return LaunchPlan((Command(words),))

    def start(self, config: Config, run: Path, plan: LaunchPlan, folder: Path) -> int:
        write_launch(folder, config.launch.name, stays=True)
        return run_local(config, run)

    def preflight(self, config: Config, run: Path) -> int:
        return check_local(config, run)


def run_local(config: Config, run: Path) -> int:
    """Train with `launch.processes` ranks here, after preflight where it is asked for; returns the exit code.

    What a rank's failure says is shown once.
    """
    from launch.agent import (  # not above: `python -m launch.agent` warns of what was imported before
        Rendezvous,
        run_agent,
    )

    if config.launch.preflight and (code := check_local(config, run)) != DONE:
        return code
    if config.launch.processes == 1 and not config.launch.restarts:
        os.environ.update(config.launch.environment)
        with handed_over():
            return work(run)
    return run_agent(config, run, Rendezvous(), restarts=config.launch.restarts)


def check_local(config: Config, run: Path) -> int:
    """Preflight of this host; returns the exit code."""
    from launch.agent import Rendezvous, run_agent

    return run_agent(config, run, Rendezvous(), "launch.preflight")
