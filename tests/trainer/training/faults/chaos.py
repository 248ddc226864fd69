"""`python -m tests.trainer.training.faults.chaos train <overrides>`: `isoflop train` with the ranks of ranks.py."""

from __future__ import annotations

import os
import sys

from launch.agent import Rendezvous, run_agent
from trainer.run.start import ready
from trainer.utils.errors import UserError

if __name__ == "__main__":
    try:
        config, folder = ready(sys.argv[2:])
        code = run_agent(
            config, folder.path, Rendezvous(), "tests.trainer.training.faults.ranks", config.launch.restarts
        )
    except UserError as error:
        print(error, file=sys.stderr)
        code = 2
    sys.stdout.flush()
    os._exit(code)
