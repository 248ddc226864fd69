"""What is asked of a model while it trains: every evaluation that the configuration switches on, on all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.data import Tokenizer
from trainer.descriptions.evaluations import EVALUATIONS, evaluations_on
from trainer.generation.loaded_model import Trained, writer_of
from trainer.training.engine import Engine, whole_model
from trainer.utils.errors import UserError

Scores = Mapping[str, Any]  # numbers by name, or by name of groups of them
Evaluation = Callable[[Trained], Scores]


class InLoop:
    """Asks the model of an engine. Made once an attempt, before its first step, and called at each point; both on
    every rank."""

    def __init__(self, config: Config, run: Path, tokenizer_file: Path, engine: Engine) -> None:
        """Raises UserError where an evaluation cannot be asked of this model."""
        self.config, self.run, self.engine = config, run, engine
        self.world = engine.world if engine.world.size > 1 else None
        self.tokenizer = Tokenizer(tokenizer_file, config.tokenizer.special_ids)
        self.evaluations: dict[str, Evaluation] = {}
        for one in evaluations_on(config.evaluation):
            made = EVALUATIONS.implementation(one.name)(config, run)
            if not callable(made):
                raise UserError(f"evaluation {one.name}: {one.implementation} makes no function of a model")
            if begin := getattr(made, "begin", None):
                begin(self._trained(0, writer_of(engine.model)))
            self.evaluations[one.name] = made

    def __call__(self, step: int, progress: Callable[[], None] = lambda: None) -> dict[str, dict[str, Any]]:
        """What each evaluation finds after `step` updates, by its name; all ranks have it. progress: called now and
        then."""
        found = {}
        with whole_model(self.engine) as model:
            trained = self._trained(step, writer_of(model), progress)
            for name, evaluation in self.evaluations.items():
                progress()
                found[name] = plain(name, evaluation(trained))
        return found

    def _trained(self, step: int, model: Any, progress: Callable[[], None] = lambda: None) -> Trained:
        return trained_in_loop(
            Trained(self.run, step, self.config, model, self.tokenizer, world=self.world, progressed=progress)
        )


def trained_in_loop(trained: Trained) -> Trained:
    """The same, for texts of the one language of the run's sources, where it reads one."""
    known = {one.language for one in trained.config.data.sources.values() if one.language}
    return trained.for_language(None) if trained.reads_language and len(known) == 1 else trained


def plain(name: str, found: Any) -> dict[str, Any]:
    """What an evaluation of this name returned, as JSON has it. Raises UserError for what is no number by name."""
    if not isinstance(found, Mapping):
        raise UserError(f"evaluation {name}: {found!r} returned, numbers by name wanted")
    return {str(key): _plain(f"{name}.{key}", value) for key, value in found.items()}


def _plain(place: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return plain(place, value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"evaluation {place}: {value!r} returned, a number wanted") from None
    return int(number) if math.isfinite(number) and isinstance(value, int) else number
