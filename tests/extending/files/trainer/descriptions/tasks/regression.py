"""Numbers."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.tasks import TaskDescription
from trainer.utils.schema import key


class Regression(TaskDescription):
    """A number for a text."""

    name = "regression"
    help = "a number for the text, or for several texts in a row"
    implementation = "trainer.tasks.regression:Numbers"
    head = "trainer.tasks.regression:NumberHead"
    scorer = "trainer.tasks.regression:score_numbers"
    pools = True

    class Keys(TaskDescription.Keys):
        """Of the loss."""

        linear_from: float = key(1.0, "errors beyond this count linearly, smaller ones squared (Huber 1964)", gt=0)

    def outputs(self, task: Any) -> int:
        """The number."""
        return 1
