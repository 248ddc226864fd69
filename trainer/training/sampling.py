"""When text is sampled from the model that trains, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.descriptions.registry import imported
from trainer.trackers import Trackers
from trainer.trackers.tracker import brief, warn
from trainer.training.dataset import Source
from trainer.training.engine import Engine

TEXT_SAMPLES = "trainer.evaluate.text_samples:TextSamples"


class Sampling:
    """Text samples of `tracker.samples`; nothing where none are wanted. All methods are collective.

    What goes wrong is told once, and never stops the run.
    """

    def __init__(self, config: Config, run: Path, source: Source, engine: Engine, trackers: Trackers) -> None:
        self.config, self.evaluates_every = config.tracker.samples, config.evaluation.every_steps
        self.first, self.trackers, self.told = engine.world.is_first, trackers, False
        self.newest: int | None = None  # step of the last samples of this attempt
        self.write: Any = None
        if self.config.wanted:
            self.write = imported(TEXT_SAMPLES)(config, run, source, engine)

    def due(self, step: int, measures: bool) -> bool:
        """After `step` updates. measures: whether the held-out loss is measured there."""
        if self.write is None:
            return False
        if self.config.every_steps is not None:
            return step % self.config.every_steps == 0
        every = (self.config.every_evaluations or 1) * (self.evaluates_every or 1)
        return measures and step % every == 0

    def sample(self, step: int, tokens: int, progress: Callable[[], None]) -> None:
        """After `step` updates on so many tokens; progress: called now and then."""
        if self.write is None:
            return
        self.newest = step
        try:
            samples, wrong = self.write(step, tokens, progress)
        except Exception as error:  # the same on all ranks: what one prompt raises is caught where it is written
            samples, wrong, self.write = [], [brief(error)], None
        if samples:
            self.trackers.samples(samples)
        if wrong and self.first and not self.told:
            warn(f"tracker.samples: {wrong[0]}; the run goes on")
            self.told = True
