"""The evaluations: what is asked of a model while it trains, beside the held-out loss. Any number of them may be on."""

from __future__ import annotations

from typing import Any, ClassVar

from trainer.descriptions.registry import Description, Registry

IN_THE_LOOP = "trainer.evaluate.in_loop:InLoop"  # asks them all, of an engine that trains


class EvaluationDescription(Description):
    """Its implementation is called as `(config, run)` with the Config and the run's folder on every rank, once an
    attempt, and returns a function of a `trainer.generation.loaded_model.Trained`: numbers by name. It is called on
    every rank whenever `evaluation.tasks_every_steps` or `evaluation.tasks_every_tokens` says, and at the end."""

    off: ClassVar[tuple[str, Any]]  # a key of its own, and its default, which leaves the evaluation out
    check: ClassVar[str | None] = None  # "module:function", called with the Config before a run starts: UserError
    # "module:function", called with the Config: FLOP of asking it once. Raises UserError. None: not counted
    flop: ClassVar[str | None] = None

    @classmethod
    def faults(cls) -> list[str]:
        name, value = cls.off
        if name not in cls.Keys.model_fields:
            return [f"its Keys have no {name!r}, which `off` says switches it off"]
        default = cls.Keys.model_fields[name].default
        return [] if default == value else [f"the default of {name!r} is {default!r}: it is off where nobody asks"]

    def takes_part(self, group: Any) -> bool:
        return bool(getattr(group, self.off[0]) != self.off[1])


EVALUATIONS: Registry[EvaluationDescription] = Registry(
    "evaluation", "trainer.descriptions.evaluations", EvaluationDescription
)


def evaluations_on(group: Any) -> list[EvaluationDescription]:
    """The evaluations that the values of the group `evaluation` ask for."""
    return [one for one in EVALUATIONS.values() if one.takes_part(group)]
