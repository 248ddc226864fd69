"""What a long answer costs."""

from __future__ import annotations

from trainer.config import TaskConfig
from trainer.tasks.rewards import Completion


def brevity(completion: Completion, task: TaskConfig) -> float:
    return -task.character_price * len(completion.text)
