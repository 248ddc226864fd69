"""Paths that begin with ~."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder in place of its ~. That of a user who is not there stays as it is written, so that
    whoever opens it says that it does not exist."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib raises RuntimeError there
