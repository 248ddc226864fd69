"""Answers that are texts."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.tasks import TaskDescription
from trainer.descriptions.tasks.keys import Answered, Prompted, Smoothed, Templated


class Text(TaskDescription):
    """An answer that the model writes."""

    name = "text"
    help = "a text that the model writes, having read a prompt"
    families = ("decoder", "encoder_decoder")
    implementation = "trainer.tasks.answers:Answers"
    head = None
    scorer = "trainer.evaluate.answers:score_texts"
    packs = converses = True

    class Keys(Smoothed, Prompted, Templated, Answered):
        """Also of instructions."""

    def target_length(self, task: Any, length: int) -> int:
        """Answers are shorter than what they answer."""
        return int(task.answer_length)
