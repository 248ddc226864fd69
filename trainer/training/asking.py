"""Everything that is measured of a model as it trains: its loss on held-out text, and at points of its own what it is
asked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.books.records import read_steps
from trainer.config import Config
from trainer.descriptions.evaluations import IN_THE_LOOP, evaluations_on
from trainer.descriptions.registry import imported
from trainer.trackers.records import EvaluationRecord
from trainer.training.completion import Completer
from trainer.training.dataset import Source
from trainer.training.distributed import World
from trainer.training.engine import Engine
from trainer.training.state import TrainState
from trainer.training.validation import Validation


class Evaluations:
    """The held-out loss, and the evaluations that the configuration switches on. All methods are collective."""

    def __init__(self, config: Config, run: Path, source: Source, engine: Engine, completer: Completer) -> None:
        """Raises UserError where this model cannot be asked what it is to be."""
        self.config, self.engine = config.evaluation, engine
        self.validation = Validation(config, source, engine.world, completer)
        self.ask: Any = None
        if evaluations_on(config.evaluation):
            self.ask = imported(IN_THE_LOOP)(config, run, source.tokenizer_file, engine)

    def due(self, step: int, tokens: int, tokens_of_step: int, last: bool) -> tuple[bool, bool]:
        """After `step` updates on so many tokens: whether to measure the loss, and whether to ask more. With the last
        step nothing is left out of a measurement."""
        measures, asks = self.config.due(step, tokens, tokens - tokens_of_step)
        return measures, asks or (measures and last and self.ask is not None)

    def missing(self, state: TrainState) -> bool:
        """Whether a run that ends here has something yet to be measured."""
        return state.evaluated_step != state.step or (self.ask is not None and state.asked_step != state.step)

    def measure(
        self, state: TrainState, attempt: int, tokens: int, asks: bool, progress: Callable[[], None]
    ) -> EvaluationRecord:
        """The loss after `state.step` updates on so many tokens, and what was asked; noted in the state. progress:
        called now and then while the model is asked."""
        record = self.validation.measure(self.engine, state.step, attempt, tokens)
        state.evaluated_step = state.step
        if asks and self.ask is not None:
            began = time.monotonic()
            scores = self.ask(state.step, progress)
            seconds = time.monotonic() - began
            record = replace(record, scores=scores, scores_seconds=seconds, seconds=record.seconds + seconds)
            state.asked_step = state.step
        if record.loss < state.best.get("loss", math.inf):
            state.best = {"step": record.step, "loss": record.loss}
            if record.bits_per_byte is not None:
                state.best["bits_per_byte"] = record.bits_per_byte
        return record


def measured_at(run: Path, step: int, world: World) -> tuple[int | None, int | None]:
    """`evaluated_step` and `asked_step` of an attempt that goes on from this step: the step, where its folder has the
    measurement; else None, so that a run which was killed after its last checkpoint is measured all the same."""
    scored = None
    if world.is_first:
        scored = next((bool(one.get("scores")) for one in read_steps(run).evaluations if one["step"] == step), None)
    scored = world.broadcast(scored)
    return None if scored is None else step, step if scored else None
