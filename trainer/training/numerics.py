"""The arithmetic of an attempt, beside that of the attempts before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.config import Config
from trainer.config.numerics import numerics, tag
from trainer.run_folder import RunFolder


def numerics_of_attempt(
    config: Config, folder: RunFolder, attempt: int, step: int, event: Callable[..., None]
) -> dict[str, Any]:
    """The values of the numerics keys on this host, for environment.json.

    Where the run was in other numerics before, by its configuration or on another host, the logbook
    and the terminal have a line that says so, and the run goes on.
    """
    values = numerics(config)
    before, now = folder.numerics(config, before=attempt)[-1:], tag(values)
    if before and before != [now]:
        text = f"numerics: {before[0]} before, {now} from here on; the curve goes on within the spread of the two"
        event("numerics", step, text, before=before[0], now=now)
    return values
