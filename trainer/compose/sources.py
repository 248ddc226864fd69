"""Where configuration files are looked for: a directory that was named, the user's own, the package's; first found.

Every group is looked for in all of them, so that `model=mine` may be a file of yours beside the package's presets.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trainer.compose.site_table import GROUP as SITES
from trainer.compose.site_table import regions
from trainer.compose.tracker_options import TRACKER_GROUP, switched
from trainer.config import Config
from trainer.utils.errors import UserError, nearest
from trainer.utils.home import expanded

CONF = Path(__file__).resolve().parents[2] / "conf"
VARIABLE = "ISOFLOP_CONFIG_DIR"
FILE_ENDINGS = (".yaml", ".yml")
REMEMBERED = "remembered.yaml"  # in the user's folder
DIRECTORY, USER, PACKAGE = "directory", "user", "package"
EXPERIMENT, COMMAND_LINE, FILE = "experiment", "command line", "file"
MANY = ("ladder", "grid")  # groups that describe many runs, and are in no default

# From the weakest to the strongest: what a later one says counts. A file that the command line names stands for the
# option of its group.
PRECEDENCE = (PACKAGE, USER, DIRECTORY, FILE, EXPERIMENT, COMMAND_LINE)


@dataclass(frozen=True)
class Source:
    """A folder with a folder for each group."""

    layer: str  # one of PRECEDENCE
    folder: Path


@dataclass(frozen=True)
class Search:
    """What this command searches beside the package, and the file it begins with."""

    directory: Path | None = None
    primary: str = "train"


_SEARCH: ContextVar[Search | None] = ContextVar("search", default=None)


@contextlib.contextmanager
def searching(directory: str | Path | None = None, primary: str | None = None) -> Iterator[None]:
    """Compose from this directory first; null: from the one that ISOFLOP_CONFIG_DIR names, if any.

    primary: another file of it in place of `train`. Raises UserError where there is no such directory.
    """
    named, origin = (directory, "--config-dir") if directory else (os.environ.get(VARIABLE) or None, VARIABLE)
    folder = expanded(named).absolute() if named else None
    if folder is not None and not folder.is_dir():
        raise UserError(f"{origin}: {named} is no directory; name one with a folder for each group, such as model/")
    token = _SEARCH.set(Search(folder, primary or "train"))
    try:
        if primary is not None and config_file(primary) is None:
            there = sorted({file.stem for source in sources() for file in source.folder.glob("*.yaml")})
            raise UserError(
                f"--config-name: no file {primary}.yaml{nearest(primary, there)}; there is {', '.join(there)}"
            )
        yield
    finally:
        _SEARCH.reset(token)


def search() -> Search:
    """What was set by `searching`, or what the environment says."""
    found = _SEARCH.get()
    if found is not None:
        return found
    with searching():
        return _SEARCH.get() or Search()


def user_folder() -> Path:
    """Where the configuration of this user lies, whether there is one or not."""
    return expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "isoflop"


def sources() -> list[Source]:
    """The folders in the order in which they are searched."""
    named, user = search().directory, user_folder()
    found = [Source(DIRECTORY, named)] if named else []
    # What is remembered (trainer/compose/remembered.py) is no file of a group: alone it is nothing to be searched.
    found += [Source(USER, user)] if user.is_dir() and any(one.name != REMEMBERED for one in user.iterdir()) else []
    return [*found, Source(PACKAGE, CONF)]


def config_file(path: str) -> tuple[Source, Path] | None:
    """The file of `<group>/<option>` that counts, and the folder it was found in."""
    found = ((source, source.folder / f"{path}.yaml") for source in sources())
    return next(((source, file) for source, file in found if file.is_file()), None)


def groups() -> dict[str, list[str]]:
    """Every config group and its options, of all folders."""
    options: dict[str, set[str]] = {}
    for source in sources():
        found = _packaged() if source.layer == PACKAGE else _options(source.folder)
        for group, names in found.items():
            options.setdefault(group, set()).update(names)
    options[TRACKER_GROUP].update(switched())
    return {group: sorted(options[group]) for group in sorted(options)}


def _options(folder: Path) -> dict[str, set[str]]:
    """Of one folder; an option in a folder of its group's is called `<folder>/<option>`."""
    found: dict[str, set[str]] = {}
    for group in {EXPERIMENT, *MANY, *Config.model_fields}:
        names = {
            file.relative_to(folder / group).with_suffix("").as_posix() for file in (folder / group).rglob("*.yaml")
        }
        if names:
            found[group] = names
    return found


@cache
def _packaged() -> dict[str, set[str]]:
    found = _options(CONF)
    return {**found, SITES: found[SITES] | set(regions())}
