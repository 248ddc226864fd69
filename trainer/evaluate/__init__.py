"""What a trained model can do: held-out loss and generation."""

from __future__ import annotations

from trainer.evaluate.generation import continue_text
from trainer.evaluate.held_out import held_out

__all__ = ["continue_text", "held_out"]
