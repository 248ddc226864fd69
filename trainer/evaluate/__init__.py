"""What a trained model can do: held-out loss, and the tasks that it was tuned on."""

from __future__ import annotations

from trainer.evaluate.held_out import held_out
from trainer.evaluate.tuned import format_scores, score_task

__all__ = ["format_scores", "held_out", "score_task"]
