"""How many tokens the encoder and the decoder read per sample."""

from __future__ import annotations

from typing import NamedTuple

from trainer.config import Config


class Lengths(NamedTuple):
    """Tokens per sample. `target` is 0 where there is no second stack."""

    source: int
    target: int = 0


def lengths(config: Config) -> Lengths:
    """Widths of the tensors that a model is given; padding is counted, for it is computed."""
    width, objective = config.data.sequence_length, config.objective
    if config.model.family != "encoder_decoder":
        return Lengths(width)
    if (task := config.task.description) is not None:
        return Lengths(width, task.target_length(config.task, width))
    target = objective.description.target_length(objective, width)
    if config.data.tasks:
        target = max(target, config.data.mixing.answer_length or 0)
    return Lengths(width, target)
