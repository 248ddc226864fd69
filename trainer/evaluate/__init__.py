"""What a trained model can do: held-out loss, generation, and the tasks that it was tuned on."""

from __future__ import annotations

from trainer.evaluate.generation import continue_text
from trainer.evaluate.held_out import held_out
from trainer.evaluate.tuned import format_scores, score_task

__all__ = ["continue_text", "format_scores", "held_out", "score_task"]
