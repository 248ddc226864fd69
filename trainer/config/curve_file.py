"""The file of a site's intensity by time, as a run keeps it: a copy in its folder, which outlives the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.utils.files import write_atomic

if TYPE_CHECKING:
    from trainer.config.whole import Config

FILE = "intensity.csv"  # in a run's folder: the curve that it began with


def with_own_curve(config: Config, run: Path) -> Config:
    """The configuration of the run in this folder, with the curve that lies there."""
    own = run / FILE
    if config.site.curve is None or not own.is_file():
        return config
    return config.model_copy(update={"site": config.site.model_copy(update={"curve": str(own)})})


def keep_curve(config: Config, run: Path) -> None:
    """Copy the curve of the site, if it has one, into a run's folder."""
    if config.site.curve is None:
        return
    named = Path(config.site.curve).expanduser()
    if named.absolute() != (run / FILE).absolute():
        write_atomic(run / FILE, named.read_bytes())
