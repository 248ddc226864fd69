"""`python -m tests.launch.faulty_agent ...`: launch.agent, with the ranks of tests/trainer/training/faults/ranks.py."""

from __future__ import annotations

import os
import sys
from functools import partial

from launch import agent

if __name__ == "__main__":
    agent.run_agent = partial(agent.run_agent, module="tests.trainer.training.faults.ranks")
    code = agent.main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
