"""Labelled text-to-text tasks that pre-training reads beside its text (Raffel et al. 2020, section 3.5.2)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from trainer.config.task import Shipped, TaskConfig
from trainer.descriptions.tasks.forms import CONVERSATIONS, FormName
from trainer.utils.schema import Count, Paths, Section, key, plain_name

TEXT_TO_TEXT = ("decoder", "encoder_decoder")  # families that write answers


class LabelledTaskConfig(Section):
    """One task of `data.tasks`: where its records are, and how they become a prompt and an answer."""

    source: Shipped | None = key(None, "a task that is made of the run's own corpus, in place of files")
    train: Paths = key((), "JSONL, JSON, CSV or TSV files of records")
    held_out: Paths = key((), "the same, never trained on; (): a share of the training records, by data.held_out")
    form: FormName | None = key(None, "how the files write prompts and answers; null: their keys tell")
    input: str | None = key(
        None, "what is asked, with fields in braces: 'cola sentence: {sentence}'; null: by the form"
    )
    target: str = key("{answer}", "what is answered, the same way; {answer}: the field of `answer`, by `options`")
    answer: str | None = key(None, "the field that {answer} stands for")
    options: dict[str, str] = key({}, "what the values of that field are called, e.g. {0: unacceptable, 1: acceptable}")
    templates: str | None = key(None, "several ways to ask instead: a shipped set of templates, or a YAML file")
    records: Count = key(4000, "most training records of a source; a quarter as many held-out ones", "records", ge=1)
    limit: Count | None = key(None, "most examples that it counts as; null: data.mixing.limit", "examples", ge=1)
    examples: Count | None = key(
        None, "examples that it counts as, whatever its size; null: its training records", "examples", ge=1
    )
    chat: bool | None = key(
        None, "a decoder's prompt ends with <sep>; false: the answer goes on; null: only conversations have it"
    )

    @field_validator("options", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Files write 0 and 1 as numbers."""
        return {str(name): one for name, one in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _fits(self) -> LabelledTaskConfig:
        places = {"train": self.train, "source": self.source, "templates": self.templates}
        given = [name for name, value in places.items() if value]
        wrong = []
        if not given:
            wrong.append("train: a task needs files, or source=<a shipped task>, or templates=<a set>")
        if len(given) > 1:
            wrong.append(f"{given[1]}: given beside {given[0]}; a task has its records from one of them")
        if self.held_out and not self.train:
            wrong.append("held_out: only a task with train files has such")
        if self.form and (not self.train or self.input is not None):
            wrong.append("form: it says what is asked and answered in train files; leave out input, source, templates")
        if self.templates and self.input is not None:
            wrong.append("input: the templates say what is asked; leave one of the two out")
        if self.input is None and (self.answer or self.options or self.target != "{answer}") and not self.templates:
            wrong.append("input: state what is asked too, e.g. input='{text}'")
        if self.templates and (self.answer or self.options or self.target != "{answer}"):
            wrong.append("templates: the set says what is answered; leave out target, answer and options")
        if self.options and self.answer is None:
            wrong.append("answer: name the field whose values the options are of")
        if self.input is not None and "{answer}" in self.target and self.answer is None:
            wrong.append("answer: name the field that {answer} stands for, or state the target")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def converses(self) -> bool:
        """Whether it is stated that prompts end with <sep>, as an exported chat template writes them."""
        return self.form in CONVERSATIONS if self.chat is None else self.chat

    @property
    def set_file(self) -> str | None:
        """The file of its templates; null: there are none, or a shipped set."""
        return self.templates if str(self.templates).endswith((".yaml", ".yml")) else None

    def as_task(self, name: str, answer_length: int, *, converses: bool) -> TaskConfig:
        """The group that a tuning run on this task would have; `input` and what belongs to it aside.

        converses: whether its prompts are conversations."""
        return TaskConfig.model_validate(
            {
                "kind": "text",
                "name": name,
                "source": self.source or "files",
                "train": self.train,
                "held_out": self.held_out,
                "templates": self.templates,
                "form": self.form,
                "text": () if self.train and self.input is None else ("text",),
                "records": self.records,
                "chat": converses if self.chat is None else self.chat,
                "answer_length": answer_length,
            }
        )


class MixingConfig(Section):
    """How often each task is read, and how often the text (section 3.5.2 of the paper)."""

    rate: Literal["proportional", "equal"] = key(
        "proportional",
        "examples of each task: in proportion to how many it has, at most `limit`; or equally many of each",
        introduced="proportional",
    )
    limit: Count | None = key(
        1 << 19,
        "most examples that a task, or the text, counts as (the paper's K); null: no limit",
        "examples",
        ge=1,
        introduced=1 << 19,
    )
    temperature: float = key(
        1.0,
        "rates are raised to the power of 1 / temperature: 1 as they are, more: nearer to equal",
        gt=0,
        le=1000,
        introduced=1.0,
    )
    text_share: float | None = key(
        None,
        "share of the samples that are text without labels; null: it counts as a task",
        ge=0,
        lt=1,
        introduced=None,
    )
    text_examples: Count | None = key(
        None,
        "examples that the text counts as; null: samples in an epoch of it, at most `limit`",
        "examples",
        ge=1,
        introduced=None,
    )
    answer_length: Count | None = key(
        None,
        "most tokens of an answer that a decoder beside an encoder reads; null: as many as of a sample of text",
        "tokens",
        ge=2,
        introduced=None,
    )


def labelled_misfits(config: Any) -> list[str]:
    """A line for each thing that does not fit between `data.tasks` and the other groups."""
    data, model, objective = config.data, config.model, config.objective.description
    if not data.tasks:
        changed = [name for name, value in data.mixing if value != type(data.mixing).model_fields[name].default]
        return [f"data.mixing.{name}: only a run with data.tasks reads it" for name in changed]
    wrong = []
    if config.task.kind is not None:
        return [
            f"data.tasks: only pre-training mixes tasks into its text; task={config.task.name} reads its own records"
        ]
    if model.family not in TEXT_TO_TEXT:
        wrong.append(
            f"data.tasks: answers are written by {' and '.join(TEXT_TO_TEXT)} models, model={model.name} is of the "
            f"family {model.family}"
        )
    if objective.reads_languages:
        wrong.append(
            f"data.tasks: objective={config.objective.name} begins every text with its language, tasks have none"
        )
    if data.stages:
        wrong.append("data.stages: the records of data.tasks are cut to one length; leave out stages")
    if capped := [name for name, source in data.sources.items() if source.epochs is not None]:
        wrong.append(f"data.sources.{capped[0]}.epochs: a cap counts samples of text alone, and data.tasks takes some")
    if data.mixing.text_share is not None and data.mixing.text_examples is not None:
        wrong.append("data.mixing.text_examples: data.mixing.text_share says already how much of the text is read")
    if (data.mixing.answer_length or 0) > data.sequence_length:
        wrong.append(
            f"data.mixing.answer_length: {data.mixing.answer_length} is longer than data.sequence_length "
            f"{data.sequence_length}"
        )
    if model.family == "decoder" and data.mixing.answer_length is not None:
        wrong.append("data.mixing.answer_length: a decoder reads prompt and answer in data.sequence_length")
    for name in data.tasks:
        if name in (*data.sources, data.name, "text"):
            wrong.append(f"data.tasks.{name}: the text is called {name} too; choose another name")
        try:
            plain_name(name)
        except ValueError as error:
            wrong.append(f"data.tasks.{name}: {error}")
    return wrong


def labelled_line(config: Any) -> str | None:
    """How tasks are mixed into the text, for a person; None: there are none."""
    tasks, mixing = config.data.tasks, config.data.mixing
    if not tasks:
        return None
    names = f"{len(tasks)} task{'s' if len(tasks) > 1 else ''} ({', '.join(sorted(tasks))})"
    if mixing.rate == "equal":
        how = "equally often"
    else:
        how = "in proportion to their examples"
        how += "" if mixing.limit is None else f", at most {mixing.limit:,} of each"
        how += "" if mixing.temperature == 1 else f", temperature {mixing.temperature:g}"
    if mixing.text_share is None:
        return f"labelled tasks: text and {names}, {how}"
    return f"labelled tasks: {mixing.text_share:.4g} of the samples are text, the others {names}, {how}"
