"""The source of the plugins that an attempt runs, beside that of the attempt before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.config import Config
from trainer.plugins import changed_sources, record, sources
from trainer.run_folder import RunFolder, read_entries


def plugins_of_attempt(config: Config, folder: RunFolder, step: int, event: Callable[..., None]) -> dict[str, Any]:
    """For environment.json: the hash of each plugin's source, nothing where the run uses none.

    Where one is another than in the attempt before, the logbook has a line that says so, and the run goes on.
    """
    now, entries = sources(record(config.taking_part)), read_entries(folder.environment)
    before = entries[-1].get("plugins") if entries else None
    for line in changed_sources(before if isinstance(before, dict) else {}, now):
        event("plugins", step, line)
    return {"plugins": now} if now else {}
