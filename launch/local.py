"""The ranks of a run on this host: in this process, or as torchrun's workers."""

from __future__ import annotations

import os
from pathlib import Path

from trainer.config import Config
from trainer.utils.outcomes import DONE
from trainer.worker import work


def run_local(config: Config, run: Path) -> int:
    """Train with `launch.processes` ranks here, after preflight where it is asked for; returns the exit code.

    What a rank's failure says is shown once.
    """
    from launch.agent import (  # not above: `python -m launch.agent` warns of what was imported before
        Rendezvous,
        run_agent,
    )

    if config.launch.preflight and (code := run_agent(config, run, Rendezvous(), "launch.preflight")) != DONE:
        return code
    if config.launch.processes == 1 and not config.launch.restarts:
        os.environ.update(config.launch.environment)
        return work(run)
    return run_agent(config, run, Rendezvous(), restarts=config.launch.restarts)
