"""The raw keys of `engine.deepspeed` judged by the installed DeepSpeed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.config import Config
from trainer.config.raw_keys import raw_key_misfits
from trainer.training.engine.library import import_deepspeed
from trainer.training.engine.settings import deepspeed_settings
from trainer.utils.errors import UserError


def check(config: Config) -> None:
    """Check raw keys before any worker starts: by the table first, then by DeepSpeed itself. Raises UserError, a line
    per key."""
    raw = config.engine.deepspeed
    if not raw:
        return
    if refused := list(raw_key_misfits(raw)):
        raise UserError("\n".join(refused))
    import_deepspeed("cpu")
    from deepspeed.runtime.config import DeepSpeedConfig  # type: ignore[import-untyped]

    try:
        DeepSpeedConfig(deepspeed_settings(config))
    except Exception as error:  # whatever DeepSpeed raises is its way to refuse
        errors: Callable[[], list[dict[str, Any]]] | None = getattr(error, "errors", None)
        lines = (
            [f"{'.'.join(map(str, one['loc']))}: {one['msg']}, got {one['input']!r}" for one in errors()]
            if errors is not None
            else [" ".join(str(error).split())]
        )
        raise UserError("\n".join(f"engine.deepspeed refused by DeepSpeed: {line}" for line in lines)) from None
