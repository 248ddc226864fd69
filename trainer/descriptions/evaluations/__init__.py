"""The evaluations: what is asked of a model while it trains, beside the held-out loss. Any number of them may be on."""

from __future__ import annotations

from typing import Any, ClassVar

from trainer.descriptions.registry import Registry, Switched

IN_THE_LOOP = "trainer.evaluate.in_loop:InLoop"  # asks them all, of an engine that trains


class EvaluationDescription(Switched):
    """Its implementation is called as `(config, run)` with the Config and the run's folder on every rank, once an
    attempt, and returns a function of a `trainer.generation.loaded_model.Trained`: numbers by name. It is called on
    every rank whenever `evaluation.tasks_every_steps` or `evaluation.tasks_every_tokens` says, and at the end."""

    kind = "an evaluation"
    check: ClassVar[str | None] = None  # "module:function", called with the Config before a run starts: UserError
    # "module:function", called with the Config: FLOP of asking it once. Raises UserError. None: not counted
    flop: ClassVar[str | None] = None


EVALUATIONS: Registry[EvaluationDescription] = Registry(
    "evaluation", "trainer.descriptions.evaluations", EvaluationDescription
)


def evaluations_on(group: Any) -> list[EvaluationDescription]:
    """The evaluations that the values of the group `evaluation` ask for."""
    return [one for one in EVALUATIONS.values() if one.takes_part(group)]
