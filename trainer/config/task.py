"""The group of tuning: what a trained model learns next, and from whose weights it begins."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from trainer.config.choice import Choosing, with_keys
from trainer.descriptions.rewards import REWARDS
from trainer.descriptions.tasks import TASKS, TaskDescription
from trainer.utils.schema import Count, Paths, key, plain_name

Shipped = Literal["packages", "line_order", "swapped", "swapped_words", "arguments", "docstrings", "continuations"]


def class_name(value: Any) -> str:
    """How a class is called: files write true, 1 or a name."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@with_keys
class TaskConfig(Choosing):
    """What a trained model is tuned on; kind=null: pre-training."""

    CHOICES: ClassVar = {"kind": TASKS, "reward_function": REWARDS}

    name: str = key("none", "name of the task, shown in reports")
    kind: str | None = key(
        None,
        "a class of the text(s), of every word, a span of the last text, a text; a score or a policy from preferences, "
        "a policy from rewards",
    )
    source: Literal["files"] | Shipped = key("files", "files of yours, or a task that is made of the run's own corpus")
    train: Paths = key((), "JSONL, JSON, CSV or TSV files of records")
    held_out: Paths = key((), "the same, never trained on; (): a share of the training records, by data.held_out")
    text: Paths = key(("text",), "fields that hold a record's text: one, or several in a row")
    answer: Paths = key(("label",), "field of the answer; of preferences two: the chosen and the rejected text")
    labels: Paths = key((), "classes in their order; (): those of the training records, sorted")
    records: Count = key(4000, "most training records; a quarter as many held-out ones", "records", ge=1)
    parent: str | None = key(None, "folder of the run whose newest weights it begins from")
    from_scratch: bool = key(False, "begin from random weights instead, to compare")
    reward_function: str | None = key(
        None, "what judges the answers that a policy writes: a shipped one or a plugin's (kind=policy)", introduced=None
    )

    @property
    def description(self) -> TaskDescription | None:
        """What is known of this kind of task; null: pre-training."""
        return None if self.kind is None else TASKS[self.kind]

    def part(self, member: str = "implementation") -> Any:
        """What a member of the description names: the format of records, the `head`, the `scorer`. Raises UserError."""
        return TASKS.implementation(str(self.kind), member)

    @property
    def rows(self) -> int:
        """Sequences that the model reads for one record."""
        return self.description.rows_of(self) if self.description else 1

    @property
    def outputs(self) -> int:
        """Columns of the new head; 0 where the pre-trained head goes on."""
        return self.description.outputs(self) if self.description else 0

    @property
    def pools(self) -> bool:
        """Whether the new head reads one vector a row."""
        return self.description is not None and self.description.pools

    @property
    def packs(self) -> bool:
        """Whether records share rows."""
        return self.description is not None and self.description.packs

    @property
    def reference(self) -> bool:
        """Whether a frozen copy of the parent is read beside the model."""
        return self.description is not None and self.description.reference

    @property
    def reads_forms(self) -> bool:
        """Whether the files are in a form of prompts and answers (trainer/tasks/forms.py): named, or told by keys."""
        own = self.description is not None and self.description.forms and self.source == "files"
        return own and self.templates is None and (self.form is not None or not self.text)

    @property
    def writes(self) -> bool:
        """Whether the model itself writes the answers that a step reads."""
        return self.description is not None and self.description.completer is not None

    @property
    def reads_answer(self) -> bool:
        """Whether a policy's reward reads the right answers."""
        return self.reward_function is not None and REWARDS[self.reward_function].reads_answer

    @property
    def unread(self) -> dict[str, str]:
        """As of every group; pre-training reads none of its keys, which `_fits` says in one line."""
        return {} if self.kind is None else super().unread

    @property
    def begins_from_parent(self) -> bool:
        return self.kind is not None and not self.from_scratch

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return plain_name(value)  # of the run's folder too

    @field_validator("labels", mode="before", json_schema_input_type=list[str | bool | int])
    @classmethod
    def _named(cls, value: Any) -> Any:
        return tuple(map(class_name, value)) if isinstance(value, list | tuple) else value

    @model_validator(mode="before")
    @classmethod
    def _files_or_a_shipped_set(cls, data: Any) -> Any:
        """Files of records stand in the place of a shipped set of templates, which reads none: task=instructions."""
        shipped = isinstance(data, dict) and not str(data.get("templates") or ".yaml").endswith((".yaml", ".yml"))
        own = shipped and data.get("train") and data.get("kind") == "text"
        return data | {"templates": None} if own else data

    @model_validator(mode="after")
    def _fits(self) -> TaskConfig:
        wrong = []
        if self.kind is None:
            if any(getattr(self, name) != field.default for name, field in type(self).model_fields.items()):
                wrong.append("kind: tuning needs one, e.g. task=swapped, or task.kind=sequence with files of yours")
        elif self.source == "files" and not self.train and not self.templates:
            wrong.append(f"train: task={self.name} needs files, e.g. task.train=train.jsonl")
        elif self.source != "files" and (self.train or self.held_out):
            wrong.append(f"train: task={self.name} is made of the corpus; add task.source=files to read files")
        if self.kind is not None and not (self.text or self.templates or self.reads_forms):
            wrong.append("text: name at least one field")
        if self.reward_function is not None and self.kind is not None and not self.writes:
            wrong.append(f"reward_function: kind={self.kind} does not read it; policy does")
        if self.description is not None and len(self.answer) != len(self.description.answers):
            wants, given = _fields(self.description.answers), ", ".join(self.answer) or "none"
            wrong.append(f"answer: kind={self.kind} wants {wants}, got {given}")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


def _fields(held: tuple[str, ...]) -> str:
    """How many fields of a record hold what is to be learned and, of several, which."""
    many = {2: "two", 3: "three"}.get(len(held), str(len(held)))
    return "one field" if len(held) == 1 else f"{many} fields, {' and '.join(held)}"
