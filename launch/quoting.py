"""The way out of this package into a shell, a batch script or a command of ssh: every value passes here.

Quotes, spaces, $, backticks and % arrive exactly. A control character is refused: a line break ends a line of a script,
and the rest of the value would be a command of its own.
"""

from __future__ import annotations

import re
import shlex

from trainer.config import CONTROL
from trainer.utils.errors import UserError


def printable(value: str, what: str) -> str:
    """The value as it is. Raises UserError, which names what holds it, where it holds a control character."""
    if CONTROL.search(value):
        raise UserError(f"{what}: {value!r} holds a line break or another control character; choose another")
    return value


def quote(value: str, what: str) -> str:
    """The value as one word of a shell."""
    return shlex.quote(printable(value, what))


def quote_secret(value: str, what: str) -> str:
    """As `quote`, for a value that no message shows."""
    if CONTROL.search(value):
        raise UserError(f"{what}: its value holds a line break or another control character, which no shell is sent")
    return shlex.quote(value)


def sbatch_word(option: str, what: str) -> str:
    """An option as sbatch reads it in a script: it knows quotes and backslashes, and no expansion."""
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", printable(option, what)):
        return option
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def file_pattern(path: str, what: str) -> str:
    """A path in SLURM's pattern of file names, where % stands for something.

    Raises UserError for a backslash: SLURM drops it and takes the pattern for a plain name.
    """
    if "\\" in path:
        raise UserError(f"{what}: {path!r} holds a backslash, which SLURM cannot write into the name of a log")
    return printable(path, what).replace("%", "%%")
