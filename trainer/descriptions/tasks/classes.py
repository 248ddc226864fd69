"""Classes of rows and of words."""

from __future__ import annotations

from trainer.descriptions.tasks import TaskDescription
from trainer.descriptions.tasks.keys import Pooled, Smoothed


class Sequence(TaskDescription):
    """A class of the text, or of several."""

    name = "sequence"
    help = "a class of the text, or of several texts in a row"
    implementation = "trainer.tasks.formats:Sequences"
    head = "trainer.models.task_heads:SequenceClassifier"
    scorer = "trainer.evaluate.task_scores:score_sequences"
    pools = classes = True

    class Keys(Smoothed, Pooled):
        """As other losses over classes."""


class Token(TaskDescription):
    """A class of every word."""

    name = "token"
    help = "a class of every word"
    implementation = "trainer.tasks.formats:Words"
    head = "trainer.models.task_heads:TokenClassifier"
    scorer = "trainer.evaluate.task_scores:score_words"
    classes = True

    class Keys(Smoothed):
        """As other losses over classes."""
