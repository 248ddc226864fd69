"""Answers that are texts."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.tasks import TaskDescription
from trainer.descriptions.tasks.keys import Prompted, Smoothed
from trainer.utils.schema import Count, key


class Text(TaskDescription):
    """An answer that the model writes."""

    name = "text"
    help = "a text that the model writes, having read a prompt"
    families = ("decoder", "encoder_decoder")
    implementation = "trainer.tasks.answers:Answers"
    head = None
    scorer = "trainer.evaluate.answers:score_texts"
    packs = converses = True

    class Keys(Smoothed, Prompted):
        """Also of instructions."""

        templates: str | None = key(
            None, "datasets with prompt templates, one drawn for every record and epoch: a shipped set, or a YAML file"
        )
        answer_length: Count = key(
            64, "most tokens of an answer (kind=text; an encoder-decoder's target)", "tokens", ge=2
        )

    def target_length(self, task: Any, length: int) -> int:
        """Answers are shorter than what they answer."""
        return int(task.answer_length)
