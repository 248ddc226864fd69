"""Own code from outside the package: descriptions of installed distributions, and of modules that a command names.

    load(["my_module", "path/to/mine.py"])

What is loaded is part of the registries of `trainer.descriptions` from then on, and so are its keys of the
configuration. A run folder causes no import: it says in plugins.json what its run used, and `require` compares.
"""

from __future__ import annotations

from trainer.plugins.loading import LOADED, VARIABLE, Plugin, load, named_again, named_in, require_implementations
from trainer.plugins.records import changed_sources, origin, read_plugins, record, require, sources, write_plugins

__all__ = [
    "LOADED",
    "VARIABLE",
    "Plugin",
    "changed_sources",
    "load",
    "named_again",
    "named_in",
    "origin",
    "read_plugins",
    "record",
    "require",
    "require_implementations",
    "sources",
    "write_plugins",
]
