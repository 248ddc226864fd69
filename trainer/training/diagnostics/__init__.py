"""What `debug` asks to be measured inside of a training: gradient noise, updates, the first value that is not finite.

Nothing here changes the outcome. A step that is not measured costs nothing, but for `debug.first_nonfinite`.
"""

from __future__ import annotations

from pathlib import Path

from trainer.config import Config
from trainer.training.diagnostics.first_nonfinite import FirstNonfinite
from trainer.training.diagnostics.noise import Noise
from trainer.training.diagnostics.updates import Updates
from trainer.training.distributed import World
from trainer.training.engine import Engine


class Diagnostics:
    """All of them, as the Trainer drives them. Every rank calls every method alike: they may be collective."""

    def __init__(self, config: Config, engine: Engine, world: World, run: Path) -> None:
        """run: the folder, whose records say what was measured before."""
        debug = config.debug
        self.noise = None if debug.noise_every is None else Noise(config, engine, world, run)
        self.updates = None if debug.updates_every is None else Updates(debug.updates_every, engine, world)
        self.nonfinite = FirstNonfinite(engine, world) if debug.first_nonfinite else None

    def measures(self, step: int) -> bool:
        """Whether update number `step` is measured: its record is to be asked for before the next step begins."""
        every = [one.every for one in (self.noise, self.updates) if one is not None]
        return any(step % interval == 0 for interval in every)

    def gradients_begin(self, step: int) -> None:
        """The gradients of the step after `step` updates are computed next, perhaps not for the first time."""
        if self.noise is not None:
            self.noise.begin(step + 1)
        if self.nonfinite is not None:
            self.nonfinite.begin()

    def source(self, loss: float, norm: float) -> str:
        """Where the gradients of a step first were not finite; empty where they are, or where nobody asked."""
        return "" if self.nonfinite is None else self.nonfinite.source(loss, norm)

    def update_begins(self, step: int) -> None:
        """The step's gradients are taken for an update, which will be number `step`."""
        if self.updates is not None:
            self.updates.begin(step)

    def noise_record(self, step: int, targets: float, norm: float) -> dict[str, float | str | None]:
        """For the record of a step with so many targets and this norm of its gradient; empty where none was asked."""
        return {} if self.noise is None else self.noise.record(step, targets, norm)

    def updates_record(self) -> dict[str, dict[str, float | None]]:
        """For the record of the step that was just made."""
        return {} if self.updates is None else self.updates.record()


__all__ = ["Diagnostics"]
