"""What a trained model is tuned on: labelled records, prompts with answers, preferences."""

from __future__ import annotations

from trainer.tasks.source import Examples, Split, Task, classes, longest, open_task

__all__ = ["Examples", "Split", "Task", "classes", "longest", "open_task"]
