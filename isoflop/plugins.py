"""Own code from outside the package."""

from __future__ import annotations

import os

from isoflop.given import a_path
from trainer.plugins import load


def use(*plugins: str | os.PathLike[str]) -> None:
    """Load plugins, as `plugins=[...]` of the command: modules by name, or files by path.

    Those of installed distributions are loaded too, as every function here does. Raises UserError.
    """
    for plugin in plugins:
        a_path("plugins", plugin)
    load([os.fspath(plugin) for plugin in plugins])
