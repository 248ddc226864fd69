"""What a step's batches still lack when they are read: of a task whose answers the model itself writes, the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from trainer.config import Config
from trainer.data.loader import StepBatch
from trainer.objectives import Batch
from trainer.training.dataset import Source
from trainer.training.engine import Engine

Phase = Callable[[str], None]  # told of what begins: generation, reward, reference


def silent(name: str) -> None:
    """For whom no phase is timed."""


class Completer(Protocol):
    """Completes a micro-batch by the model as it is now; a pure function of the weights and the batch."""

    def complete(self, batch: Batch, phase: Phase = silent) -> Batch:
        """The batch as the model's forward pass takes it. No collective: ranks may take different times."""
        ...


class AsRead:
    """Batches of text and of records are complete."""

    def complete(self, batch: Batch, phase: Phase = silent) -> Batch:
        """As it is."""
        return batch


def completer_of(config: Config, engine: Engine, source: Source) -> Completer:
    """What completes the batches of this run."""
    if not config.task.writes:
        return AsRead()
    made: Completer = config.task.part("completer")(config, engine.model, source, engine.progressed)
    return made


def completed(completer: Completer, batch: StepBatch, phase: Phase) -> StepBatch:
    """A rank's share of a step with all its micro-batches complete."""
    return replace(batch, micro_batches=[completer.complete(one, phase) for one in batch.micro_batches])
