"""The weights that a run begins from where these are trained: a tuning run from the newest intact checkpoint of its
parent, continued pre-training from the copy in its own folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from trainer.config import Config
from trainer.run_folder import RunFolder
from trainer.training.checkpoint import open_weights
from trainer.training.chosen_weights import ChosenWeights
from trainer.utils.checkpoint_files import CorruptCheckpoint, folder_of
from trainer.utils.errors import UserError
from trainer.utils.which_weights import NEWEST, places

BACKBONES = ("body.", "reference.")  # how names of what was trained before begin in a tuned model; others are new heads
DELTA = "delta.weight"  # what a discriminator adds to its generator's embedding, where each has its own


def known_weights(config: Config, folder: RunFolder, *, beginning: bool) -> Callable[[str], Tensor | None]:
    """A parameter by its name in this run's model; null where it is to be drawn, and where the run goes on from a
    checkpoint of its own. Raises UserError where there are no such weights."""
    if not config.init.given:
        return parent_weights(config, beginning=beginning)
    return _initial(folder) if beginning else lambda name: None


def _initial(folder: RunFolder) -> Callable[[str], Tensor | None]:
    """What was written down when the run was made, all of it."""
    try:
        checkpoint = open_weights(folder_of(folder.initial, 0))
    except CorruptCheckpoint as error:
        raise UserError(f"init: {folder.initial}: the weights to begin from are damaged ({error})") from None
    read, shapes = checkpoint.reader(), checkpoint.manifest["shapes"]
    return lambda name: read(name, "weight", 0, math.prod(shapes[name])).view(*shapes[name])


def parent_weights(config: Config, *, beginning: bool) -> Callable[[str], Tensor | None]:
    """A parameter of the parent by its name in the tuned model; null for new heads, and where nothing is taken over:
    in pre-training, and where the run goes on from a checkpoint of its own. A reference is read from the parent always.

    Raises UserError where the parent has no such weights.
    """
    if not config.task.begins_from_parent or not (beginning or config.task.reference):
        return lambda name: None
    parent = Path(str(config.task.parent))
    place = next(places(parent, NEWEST), None)
    if place is None:
        raise UserError(f"task.parent: {parent}: no intact checkpoint")
    chosen = ChosenWeights.of(place)
    read, shapes = chosen.reader(), chosen.shapes

    def known(name: str) -> Tensor | None:
        plain = next((name.removeprefix(prefix) for prefix in BACKBONES if name.startswith(prefix)), None)
        if plain is None and config.task.outputs:
            return None
        own = [one for one in (plain or name, f"body.{plain or name}") if one in shapes]
        if not own:
            raise UserError(f"task.parent: {chosen.folder}: has no weights for {name}")
        if own[0] == "tokens.weight" and DELTA in shapes:
            return read(own[0]) + read(DELTA)
        return read(own[0])

    return known
