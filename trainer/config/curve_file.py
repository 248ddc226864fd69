"""The file of a site's intensity by time, as a run keeps it: a copy in its folder, which outlives the user's own."""

from __future__ import annotations

from pathlib import Path

from trainer.config.pricing import SiteConfig
from trainer.utils.files import write_atomic
from trainer.utils.home import expanded

FILE = "intensity.csv"  # in a run's folder: the curve that it began with


def with_own_curve(site: SiteConfig, run: Path) -> SiteConfig:
    """The site of the run in this folder, with the curve that lies there."""
    own = run / FILE
    return site if site.curve is None or not own.is_file() else site.model_copy(update={"curve": str(own)})


def keep_curve(site: SiteConfig, run: Path) -> None:
    """Copy the curve of the site, if it has one, into a run's folder."""
    if site.curve is None:
        return
    named = expanded(site.curve)
    if named.absolute() != (run / FILE).absolute():
        write_atomic(run / FILE, named.read_bytes())
