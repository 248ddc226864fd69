"""What a run would read, before anything runs."""

from __future__ import annotations

from typing import Any

from isoflop.given import a_config
from isoflop.plugins import use
from trainer.config import Config
from trainer.utils.errors import UserError

__all__ = ["Reading", "show"]


class Reading(dict[str, Any]):
    """A step's samples as plain data; `print` gives the text of `isoflop data show`, with the noise marked."""

    def __str__(self) -> str:
        from trainer.data.show import format_show

        return format_show(self)

    __repr__ = __str__


def show(config: Config, step: int = 0, *, samples: int = 2) -> Reading:
    """What a step of this configuration reads, decoded, with its noise marked; as `isoflop data show`. The first step
    is 0. The text is prepared first, where it is not yet. Raises UserError."""
    use()
    from trainer.tasks.show import show as shown

    if not isinstance(step, int):
        raise UserError(f"show: step: {step!r} given, a whole number wanted")
    return Reading(shown(a_config("show", config), step, samples=samples))
