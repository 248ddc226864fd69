"""The group `tracker.samples`: what a model writes as it learns."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from trainer.utils.schema import Paths, Section, key

MASK = "<mask>"


class SamplesConfig(Section):
    """Text that the model writes now and then, for people to read; none unless one of the intervals is given."""

    every_steps: int | None = key(None, "steps between two text samples; null: none", "steps", ge=1, introduced=None)
    every_evaluations: int | None = key(
        None, "the same in measurements of the held-out loss", "evaluations", ge=1, introduced=None
    )
    prompts: Paths = key(
        (), "texts to continue, or to fill where they hold <mask>; (): beginnings of held-out texts", introduced=[]
    )
    held_out: int = key(2, "held-out texts that are begun or masked", "texts", ge=1, le=32, introduced=2)
    prompt_tokens: int = key(16, "tokens of a held-out text that are read", "tokens", ge=4, le=64, introduced=16)
    tokens: int = key(48, "tokens that are written at most", "tokens", ge=1, introduced=48)
    temperature: float = key(0.0, "0: always the likeliest token; else drawn, by a seed", ge=0, introduced=0.0)
    seed: int = key(0, "of what is drawn", ge=0, lt=2**63, introduced=0)

    @model_validator(mode="after")
    def _one_interval(self) -> SamplesConfig:
        if self.every_steps is not None and self.every_evaluations is not None:
            raise ValueError("every_evaluations: samples.every_steps is given too; state one of the two")
        changed = [name for name, value in self if value != type(self).model_fields[name].default]
        if changed and not self.wanted:
            raise ValueError(f"{changed[0]}: nothing is sampled; add tracker.samples.every_steps=100")
        return self

    @property
    def wanted(self) -> bool:
        return self.every_steps is not None or self.every_evaluations is not None


def samples_misfits(config: Any) -> list[str]:
    """Why this model does not write what is asked: a line each."""
    samples = config.tracker.samples
    if not samples.wanted:
        return []
    if config.task.outputs:
        interval = "every_steps" if samples.every_steps is not None else "every_evaluations"
        return [f"tracker.samples.{interval}: task.kind={config.task.kind} scores text and writes none"]
    wrong, infills = [], config.objective.description.infills
    for prompt in samples.prompts:
        shown = f"tracker.samples.prompts: {prompt[:40]!r}"
        if MASK not in prompt and config.model.family == "encoder":
            wrong.append(f"{shown} has no {MASK} to be filled, and an encoder continues no text")
        elif MASK in prompt and infills is None:
            wrong.append(f"{shown}: objective={config.objective.name} trains no filling of {MASK}")
        elif not prompt.strip() and config.model.family != "decoder":
            wrong.append(f"{shown}: an empty text is nothing to be read")
    return wrong
