"""The one exception whose text is meant for the person at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from difflib import get_close_matches

from trainer.utils.outcomes import ExitCode


class UserError(ValueError):
    """Bad input or a bad environment: shown as one line per line of text, exit code 2, no traceback."""


class DiskFull(UserError):
    """A disk without room: told as bad input is, but the command has failed (exit code 1)."""


def code_of(error: Exception) -> int:
    """The exit code of a command that ends with this line: 1 for what a user did not give, else 2."""
    return ExitCode.FAILED if isinstance(error, DiskFull) else ExitCode.BAD_INPUT


def left_out(what: str, error: Exception) -> None:
    """Say on standard error that one of many could not be read, while the others are."""
    print(f"isoflop: {' '.join(str(error).split())}; {what} is left out", file=sys.stderr)


def nearest(given: str, allowed: Iterable[str]) -> str:
    """A hint such as ` (did you mean 'cosine'?)`, or nothing when no allowed name is near."""
    close = get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
