"""How text becomes a training example: one file per family of objectives."""

from __future__ import annotations

from trainer.config import Config
from trainer.objectives.base import NO_TARGET, PADDING, Batch, Objective, Window
from trainer.objectives.causal import Causal

__all__ = ["NO_TARGET", "PADDING", "Batch", "Objective", "Window", "objective"]


def objective(config: Config) -> Objective:
    """The objective that `config.objective` describes."""
    return Causal(config.data.sequence_length)
