"""Configurations and what they cost, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterable

from isoflop.given import a_config, a_path, words
from isoflop.plugins import use
from trainer.books import PriceTag, format_price_tag
from trainer.config import Config

__all__ = ["Config", "Price", "change", "compose", "plan"]


def compose(
    overrides: Iterable[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    plugins: Iterable[str | os.PathLike[str]] = (),
) -> Config:
    """The configuration that overrides describe, as on the command line: `compose(["model=gpt-mini", "seed=1"])`.

    config_dir: a directory with files of your own, as `--config-dir`. plugins: modules or files with code of your own,
    as `plugins=[...]`; they stay loaded. Raises UserError with every error at once.
    """
    use(*([plugins] if isinstance(plugins, str) else plugins))
    from trainer.compose import compose as composed
    from trainer.compose import searching

    wanted = words("compose", overrides)
    with searching(config_dir if config_dir is None else str(a_path("compose: config_dir", config_dir))):
        return composed(wanted)


def change(config: Config, overrides: Iterable[str]) -> Config:
    """The configuration with overrides on top, checked anew: `change(config, ["seed=2"])`. Raises UserError."""
    from trainer.compose import change as changed

    return changed(a_config("change", config), words("change", overrides))


def plan(config: Config) -> Price:
    """The price of exactly this run before it starts: `print(plan(config))`, `plan(config)["flop.total"].planned`.

    Raises UserError."""
    from trainer.books import plan as planned

    return Price.of(planned(a_config("plan", config)))


class Price(PriceTag):
    """A price tag that shows itself as the table which `isoflop plan` prints; its rows have the keys of its JSON."""

    @classmethod
    def of(cls, tag: PriceTag) -> Price:
        return cls(tag.title, tag.rows, tag.notes, tag.fit)

    def __str__(self) -> str:
        return format_price_tag(self)

    __repr__ = __str__
