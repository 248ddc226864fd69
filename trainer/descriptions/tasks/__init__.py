"""Kinds of tasks that a trained model is tuned on."""

from __future__ import annotations

from typing import Any, ClassVar

from trainer.descriptions.registry import Description, Registry

FAMILIES = ("decoder", "encoder", "encoder_decoder")


class TaskDescription(Description):
    """What the configuration, the books, tuning and evaluation must know of a kind of task.

    `implementation` is a `trainer.tasks.formats.Format`: from a record to the arrays that a model reads.
    """

    families: ClassVar[tuple[str, ...]] = FAMILIES  # of the models that can be tuned on it
    head: ClassVar[str | None]  # "module:class" of the new head; null: the pre-trained head goes on
    scorer: ClassVar[str]  # "module:function" from a `trainer.evaluate.task_scores.Tuned` to metrics
    answers: ClassVar[tuple[str, ...]] = ("the answer",)  # what each field of `task.answer` holds
    pools: ClassVar[bool] = False  # whether the head reads one vector a row: pre-training's pooler serves it
    classes: ClassVar[bool] = False  # whether an answer is one of `task.labels`
    packs: ClassVar[bool] = False  # whether records share rows, which the implementation makes of them itself
    reference: ClassVar[bool] = False  # whether a frozen copy of the parent is read beside the model
    forms: ClassVar[bool] = False  # whether files may be in a form that says itself what is asked and answered
    wrapper: ClassVar[str] = "trainer.models.preference:PreferenceModel"  # "module:class" around both of them
    # "module:class" of a `trainer.training.completion.Completer`: the model itself writes the answers that a step reads
    completer: ClassVar[str | None] = None
    converses: ClassVar[bool] = False  # whether an exported tokenizer says how prompts and answers follow each other

    @property
    def rows(self) -> int:
        """Sequences that the model reads for one record."""
        return len(self.answers)

    def rows_of(self, task: Any) -> int:
        """The same of a task with these keys, where they decide."""
        return self.rows

    def outputs(self, task: Any) -> int:
        """Columns of the new head; 0 where the pre-trained head goes on."""
        return len(task.labels) if self.classes else 0

    def target_length(self, task: Any, length: int) -> int:
        """Tokens of a row that an encoder-decoder's decoder reads; its encoder reads `length`."""
        return length

    def config_misfits(self, config: Any) -> list[str]:
        """What does not fit between the task and other groups: `key: what is wrong`, one a line."""
        return []


TASKS = Registry("task kind", "trainer.descriptions.tasks", TaskDescription, chosen_by="kind")
