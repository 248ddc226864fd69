"""The one exception whose text is meant for the person at the terminal."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Iterable
from difflib import get_close_matches

from trainer.utils.outcomes import ExitCode

LONGEST_LINE = 600  # of what is shown: the given value may be a file's whole content


class UserError(ValueError):
    """Bad input or a bad environment: shown as one line per line of text, exit code 2, no traceback."""


class DiskFull(UserError):
    """A disk without room: told as bad input is, but the command has failed (exit code 1)."""


def code_of(error: Exception) -> int:
    """The exit code of a command that ends with this line: 1 for what a user did not give, else 2."""
    return ExitCode.FAILED if isinstance(error, DiskFull) else ExitCode.BAD_INPUT


def tell(error: Exception) -> None:
    """Show each line of an error's text on standard error; of a long one the beginning and the end."""
    for line in str(error).splitlines():
        print(f"isoflop: {cut(line)}", file=sys.stderr)


def cut(line: str, at_most: int = LONGEST_LINE) -> str:
    """The line, or its beginning and its end where it is longer than that."""
    if len(line) <= at_most:
        return line
    return f"{line[: at_most // 2]} ... {line[len(line) - at_most // 3 :]}"


def tell_fault(error: BaseException) -> None:
    """Say in one line that isoflop itself failed, and where the traceback is: a new file of the temporary folder."""
    whole = "".join(traceback.format_exception(error))
    try:
        descriptor, name = tempfile.mkstemp(prefix="isoflop-", suffix=".log")
        with os.fdopen(descriptor, "w", errors="backslashreplace") as file:
            file.write(whole)
    except OSError:  # no room there
        print(whole, file=sys.stderr)
        name = "the lines above"
    said = " ".join(f"{type(error).__name__}: {error}".split())
    print(f"isoflop: internal error: {cut(said)}; the traceback is in {name}", file=sys.stderr)


def left_out(what: str, error: Exception) -> None:
    """Say on standard error that one of many could not be read, while the others are."""
    print(f"isoflop: {cut(' '.join(str(error).split()))}; {what} is left out", file=sys.stderr)


def nearest(given: str, allowed: Iterable[str]) -> str:
    """A hint such as ` (did you mean 'cosine'?)`, or nothing when no allowed name is near."""
    close = get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
