"""How text becomes a training example: what `trainer.descriptions.objectives` describes."""

from __future__ import annotations

from trainer.config import Config
from trainer.descriptions.objectives import OBJECTIVES
from trainer.objectives.base import NO_TARGET, PADDING, SHARED, Batch, Layout, Objective, Texts, Window
from trainer.objectives.packed import Packed
from trainer.objectives.vocabulary import Vocabulary
from trainer.utils.errors import UserError

__all__ = [
    "NO_TARGET",
    "PADDING",
    "Batch",
    "Layout",
    "Objective",
    "Packed",
    "Texts",
    "Vocabulary",
    "Window",
    "check_family",
    "objective",
]


def objective(config: Config, vocabulary: Vocabulary) -> Objective:
    """The objective that `config.objective` describes.

    Raises UserError when the model is of a family that it cannot train, or the tokenizer lacks the special tokens it
    needs.
    """
    check_family(config)
    name = config.objective.name
    built: Objective = OBJECTIVES.implementation(name)(config, vocabulary)
    if built.layout not in SHARED:
        return built
    if not hasattr(built, "packed_length"):
        raise UserError(
            f"objective={name}: its examples cannot share a sample (it has no packed_length); take "
            "data.packing=padded, or data.boundaries=false, which reads each window as one text"
        )
    return Packed(built, vocabulary.id("<pad>", name))  # type: ignore[arg-type]


def check_family(config: Config) -> None:
    """Raise UserError when the model is of a family that the objective cannot train; fine-tuning does not use it."""
    if config.task.kind is not None:
        return
    families = config.objective.description.families
    if config.model.family not in families:
        raise UserError(
            f"objective={config.objective.name} trains {' and '.join(families)} models, "
            f"model={config.model.name} is a model of the family {config.model.family}; "
            "choose another model or another objective"
        )
