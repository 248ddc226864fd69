"""What callers hand over, told in one line where it is of another kind than wanted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.utils.errors import UserError

if TYPE_CHECKING:
    from trainer.config import Config


def a_config(function: str, given: Any) -> Config:
    """The configuration. Raises UserError for anything else, such as the words of one."""
    from trainer.config import Config

    if not isinstance(given, Config):
        way = 'a configuration wanted: isoflop.compose(["model=gpt-mini"])'
        raise UserError(f"{function}: {_kind(given)} given, {way}")
    return given


def words(function: str, given: Any) -> list[str]:
    """Overrides as a list; one alone may be text. Raises UserError where they are no words."""
    found = [given] if isinstance(given, str) else given
    if isinstance(found, dict) or not isinstance(found, Iterable):
        raise UserError(f'{function}: {_kind(given)} given, words wanted, such as ["model=gpt-mini", "seed=1"]')
    found = list(found)
    if odd := [word for word in found if not isinstance(word, str)]:
        raise UserError(f'{function}: {odd[0]!r} is {_kind(odd[0])}, a word such as "seed=1" wanted')
    return found


def a_path(function: str, given: Any) -> Path:
    """The path that text or a path names, `~` expanded; of a Run its folder. Raises UserError for anything else."""
    named = getattr(given, "path", given)
    if not isinstance(named, str | os.PathLike):
        raise UserError(f"{function}: {_kind(given)} given, a path wanted")
    return Path(os.path.expanduser(named))  # noqa: PTH111 - it leaves the ~ of an unknown user alone


def _kind(given: Any) -> str:
    return "nothing (None)" if given is None else f"a value of type {type(given).__name__}"
