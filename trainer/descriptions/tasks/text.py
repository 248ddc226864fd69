"""Answers that are texts."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.tasks import TaskDescription
from trainer.descriptions.tasks.forms import FormName
from trainer.descriptions.tasks.keys import Answered, Prompted, Smoothed, Templated
from trainer.utils.schema import key


class Text(TaskDescription):
    """An answer that the model writes."""

    name = "text"
    help = "a text that the model writes, having read a prompt"
    families = ("decoder", "encoder_decoder")
    implementation = "trainer.tasks.answers:Answers"
    head = None
    scorer = "trainer.evaluate.answers:score_texts"
    packs = converses = forms = True

    class Keys(Smoothed, Prompted, Templated, Answered):
        """Also of instructions."""

        form: FormName | None = key(
            None,
            "how the files write prompts and answers, where no fields are stated (instructions); null: their keys tell",
            introduced=None,
        )

    def misfits(self, group: Any) -> list[str]:
        """A form says itself which fields are read."""
        if group.form is None:
            return []
        if group.templates is not None or group.source != "files":
            what = "templates" if group.templates is not None else f"source={group.source}"
            return [f"form: {what} says what is asked and answered; leave one of the two out"]
        stated = group.text not in ((), type(group).model_fields["text"].default)
        return [f"form: it names the fields itself; leave out task.text={list(group.text)}"] if stated else []

    def target_length(self, task: Any, length: int) -> int:
        """Answers are shorter than what they answer."""
        return int(task.answer_length)
