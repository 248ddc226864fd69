"""Answers that stand in the text."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.tasks import TaskDescription


class Span(TaskDescription):
    """Where in the last text the answer stands."""

    name = "span"
    help = "where in the last text the answer stands"
    implementation = "trainer.tasks.formats:Spans"
    head = "trainer.models.task_heads:QuestionAnswering"
    scorer = "trainer.evaluate.task_scores:score_spans"

    def outputs(self, task: Any) -> int:
        """Of the first and of the last token."""
        return 2
