"""The weights of a run as they are read outside of training: of a checkpoint, or of an average.

Schedule-free training steps on other weights than those that are used: a checkpoint holds the former, and says in
`used` how the latter are made of them and of a state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.training.checkpoint import Checkpoint
from trainer.training.engine import mean
from trainer.utils.errors import UserError
from trainer.utils.which_weights import NEWEST, Place, Which, kinds_of, places


@dataclass(frozen=True)
class ChosenWeights:
    """Intact weights of a run."""

    checkpoint: Checkpoint
    average: str | None = None

    @classmethod
    def of(cls, place: Place) -> ChosenWeights:
        return cls(Checkpoint(place.folder, dict(place.manifest)), place.average)

    @property
    def folder(self) -> Path:
        return self.checkpoint.folder

    @property
    def manifest(self) -> dict[str, Any]:
        return self.checkpoint.manifest

    @property
    def step(self) -> int:
        return self.checkpoint.step

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(shape) for name, shape in self.manifest["shapes"].items()}

    def reader(self) -> Callable[[str], Tensor]:
        """A parameter by its name: whole, fp32, a tensor of its own."""
        read, shapes = self.checkpoint.reader(), self.shapes
        kinds = kinds_of(self.manifest, self.average)
        learned = {one["name"] for one in self.manifest["moments"]}  # not so a bias that evens loads: it has no average

        def whole(name: str) -> Tensor:
            shape = shapes[name]
            numel = math.prod(shape)
            if not kinds or self.average is None or name not in learned:
                value = read(name, "weight", 0, numel).clone()
                if kinds and self.step and name in learned:
                    value.lerp_(read(name, kinds[0], 0, numel), self.manifest["used"]["share"])
            else:
                value = mean([read(name, kind, 0, numel) for kind in kinds])
            return value.view(*shape)

        return whole

    def weights(self) -> dict[str, Tensor]:
        """All of them by name."""
        read = self.reader()
        return {name: read(name) for name in self.shapes}


def chosen_weights(run: Path, which: Which = NEWEST) -> ChosenWeights:
    """Those of a run that are meant, of the newest intact checkpoint where no step is named. Raises UserError."""
    place = next(places(run, which), None)
    if place is None:
        at = "" if which.step is None else f" of step {which.step}"
        raise UserError(f"{run}: no intact checkpoint{at} yet")
    return ChosenWeights.of(place)
