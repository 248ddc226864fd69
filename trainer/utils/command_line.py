"""Lines that a person can paste into a shell: they run what this process ran as, in any shell and folder."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from trainer.utils.own_packages import search_path

MODULES = {"isoflop": "trainer", "wandb": "wandb"}  # program -> the module that does the same
_given: list[str] = []  # words of this process's own command


def command_line(*words: str, folder: Path | None = None, program: str = "isoflop") -> str:
    """The line that runs a program of this Python with these words, quoted for a POSIX shell.

    folder: where it has to run, for words that hold relative paths; the line goes there first.
    """
    line = shlex.join([*_start_of(program), *words])
    return line if folder is None else f"cd {shlex.quote(str(folder))} && {line}"


def remember(words: Sequence[str]) -> None:
    """Keep the words of the command that this process runs, for `same_again`."""
    _given[:] = words


def same_again() -> str:
    """The line that gives this process's command again, in the folder where it was given."""
    return command_line(*_given, folder=current_folder())


def current_folder() -> Path | None:
    """The working directory; None where it was deleted meanwhile."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _start_of(program: str) -> list[str]:
    """Its name where a new shell finds it too, else the path of its script, else Python with its module."""
    found = shutil.which(program)
    own = [script for folder in _script_folders() if os.access(script := folder / program, os.X_OK)]
    if found and any(script.samefile(found) for script in own) and not _in_activated_environment(Path(found)):
        return [program]
    if own:
        return [str(own[0])]
    python = [sys.executable, "-P", "-m", MODULES[program]]
    return ["env", f"PYTHONPATH={search_path()}", *python] if program == "isoflop" else python


def _script_folders() -> list[Path]:
    """Where this Python's distributions have their scripts. A virtual environment's Python is a link: not resolved."""
    folders = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    return [*folders, Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")))]


def _in_activated_environment(script: Path) -> bool:
    """Whether the path leads there only because somebody activated an environment, as a new shell may not."""
    own = sys.prefix if sys.prefix != sys.base_prefix else None
    environments = (own, os.environ.get("VIRTUAL_ENV"), os.environ.get("CONDA_PREFIX"))
    return any(one and script.is_relative_to(one) for one in environments)
