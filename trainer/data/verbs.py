"""What the command line asks of this room."""

from __future__ import annotations

from typing import Any

from trainer.config import Config
from trainer.data.card import card as describe
from trainer.data.card import format_card
from trainer.data.preparation import Progress, prepare
from trainer.data.show import format_show, show

__all__ = ["card", "format_card", "format_show", "show"]


def card(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """The data card of a config's corpus, which is prepared if need be; `format_card` makes it Markdown."""
    return describe(config, prepare(config, progress))
