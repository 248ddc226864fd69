"""Everything that the golden fixtures import of the product: the one place to change when a module moves or is renamed.

All else is observed from outside: the command line, the files of a run folder, and the packaged configuration.
"""

from __future__ import annotations

from pathlib import Path

from trainer.cli.main import VERBS, main
from trainer.compose import CONF, compose
from trainer.config import MACHINERY, SCIENCE, Config, GridRoot, LadderRoot
from trainer.config.numerics import kind as kind_of_key
from trainer.data import Samples, prepare
from trainer.scaling.grid import planned_grid
from trainer.scaling.ladder import planned_runs
from trainer.utils.errors import UserError
from trainer.utils.outcomes import ExitCode

ROOT = Path(__file__).resolve().parents[2]  # of the repository
COMMAND = ("-m", "trainer")  # `python -m trainer train ...` is `isoflop train ...`
MAIN = "from trainer.cli.main import main"  # the same in this process: main(words) returns the exit code
EXIT_CODES = {
    "finished": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "bad input": ExitCode.BAD_INPUT,
    "halted": ExitCode.HALTED,
    "stopped": ExitCode.STOPPED,
}

__all__ = [
    "COMMAND",
    "CONF",
    "EXIT_CODES",
    "MACHINERY",
    "MAIN",
    "ROOT",
    "SCIENCE",
    "VERBS",
    "Config",
    "GridRoot",
    "LadderRoot",
    "Samples",
    "UserError",
    "compose",
    "kind_of_key",
    "main",
    "planned_grid",
    "planned_runs",
    "prepare",
]
