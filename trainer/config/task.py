"""The group of tuning: what a trained model learns next, and from whose weights it begins."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from trainer.utils.schema import Count, Paths, Section, key, plain_name

Kind = Literal["sequence", "token", "span", "text", "reward", "preference"]
Shipped = Literal["packages", "line_order", "swapped", "swapped_words", "arguments", "docstrings", "continuations"]


def class_name(value: Any) -> str:
    """How a class is called: files write true, 1 or a name."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class TaskConfig(Section):
    """What a trained model is tuned on; kind=null: pre-training."""

    name: str = key("none", "name of the task, shown in reports")
    kind: Kind | None = key(
        None,
        "a class of the text(s), of every word, a span of the last text, a text; a score or a policy from preferences",
    )
    source: Literal["files"] | Shipped = key("files", "files of yours, or a task that is made of the run's own corpus")
    train: Paths = key((), "JSONL, JSON, CSV or TSV files of records")
    held_out: Paths = key((), "the same, never trained on; (): a share of the training records, by data.held_out")
    text: Paths = key(("text",), "fields that hold a record's text: one, or several in a row")
    answer: Paths = key(("label",), "field of the answer; of preferences two: the chosen and the rejected text")
    labels: Paths = key((), "classes in their order; (): those of the training records, sorted")
    templates: str | None = key(
        None, "datasets with prompt templates, one drawn for every record and epoch: a shipped set, or a YAML file"
    )
    chat: bool = key(
        True, "a prompt ends with <sep>, as the exported chat template writes it; false: the answer goes on"
    )
    records: Count = key(4000, "most training records; a quarter as many held-out ones", "records", ge=1)
    answer_length: int = key(64, "most tokens of an answer (kind=text; an encoder-decoder's target)", "tokens", ge=2)
    label_smoothing: float = key(0.0, "share of the target that is spread over all tokens or classes", ge=0, lt=1)
    beta: float = key(0.1, "strength of the pull towards the reference (kind=preference)", gt=0)
    parent: str | None = key(None, "folder of the run whose newest weights it begins from")
    from_scratch: bool = key(False, "begin from random weights instead, to compare")

    FAMILIES: ClassVar[dict[str, tuple[str, ...]]] = {
        "text": ("decoder", "encoder_decoder"),
        "preference": ("decoder",),
    }

    @property
    def rows(self) -> int:
        """Sequences that the model reads for one record."""
        return 2 if self.kind in ("reward", "preference") else 1

    @property
    def outputs(self) -> int:
        """Columns of the new head; 0 where the pre-trained head goes on."""
        if self.kind in ("sequence", "token"):
            return len(self.labels)
        return {"span": 2, "reward": 1}.get(self.kind or "", 0)

    @property
    def pools(self) -> bool:
        """Whether the new head reads one vector a row."""
        return self.kind in ("sequence", "reward")

    @property
    def begins_from_parent(self) -> bool:
        return self.kind is not None and not self.from_scratch

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return plain_name(value)  # of the run's folder too

    @field_validator("labels", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return tuple(map(class_name, value)) if isinstance(value, list | tuple) else value

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
        if self.kind is not None and not self.text and not self.templates:
            wrong.append("text: name at least one field")
        if self.kind is not None and len(self.answer) != self.rows:
            wants = "two fields, the chosen and the rejected text" if self.rows == 2 else "one field"
            wrong.append(f"answer: kind={self.kind} wants {wants}, got {', '.join(self.answer) or 'none'}")
        if self.templates is not None and self.kind != "text":
            wrong.append(f"templates: only kind=text reads them, this is kind={self.kind}")
        if self.label_smoothing and self.kind not in ("text", "sequence", "token"):
            wrong.append(f"label_smoothing: kind={self.kind} does not read it; text, sequence and token do")
        if self.from_scratch and self.kind == "preference":
            wrong.append("from_scratch: preferences are learned against a reference, the parent run")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self
