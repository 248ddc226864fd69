"""The weights that a tuning run begins from: those of the newest intact checkpoint of its parent."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from trainer.config import Config
from trainer.run_folder import RunFolder
from trainer.training.checkpoint import valid_checkpoints
from trainer.utils.errors import UserError

BACKBONES = ("body.", "reference.")  # how names of what was trained before begin in a tuned model; others are new heads


def parent_weights(config: Config, *, beginning: bool) -> Callable[[str], Tensor | None]:
    """A parameter of the parent by its name in the tuned model; null for new heads, and where nothing is taken over:
    in pre-training, and where the run goes on from a checkpoint of its own. A reference is read from the parent always.

    Raises UserError where the parent has no such weights.
    """
    if not config.task.begins_from_parent or not (beginning or config.task.reference):
        return lambda name: None
    parent = Path(str(config.task.parent))
    checkpoint = next(valid_checkpoints(RunFolder(parent).checkpoints), None)
    if checkpoint is None:
        raise UserError(f"task.parent: {parent}: no intact checkpoint")
    read, shapes = checkpoint.reader(), checkpoint.manifest["shapes"]

    def known(name: str) -> Tensor | None:
        plain = next((name.removeprefix(prefix) for prefix in BACKBONES if name.startswith(prefix)), None)
        if plain is None and config.task.outputs:
            return None
        own = [one for one in (plain or name, f"body.{plain or name}") if one in shapes]
        if not own:
            raise UserError(f"task.parent: {checkpoint.folder}: has no weights for {name}")
        shape = shapes[own[0]]
        return read(own[0], "weight", 0, math.prod(shape)).view(*shape)

    return known
