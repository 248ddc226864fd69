"""Sets of prompt templates over datasets: instruction tuning (Wei et al. 2022, FLAN, section 2.1).

A set is a YAML file, a list of datasets:

    - source: swapped                     # a shipped task, or train: and held_out: files of records
      templates:                          # of every record one is drawn, another one every epoch
        - input: "Is this code intact?\\n{text}\\n{options}"
          target: "{answer}"
      answer: label                       # the field that {answer} stands for
      options: {intact: "yes", swapped: "no"}    # what its values are called; {options} lists the names

A template may name any field of the record. Files whose records are prompts with answers already need no templates:

    - train: alpaca.json
      form: alpaca                        # see trainer/tasks/forms.py
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.descriptions.tasks.forms import FORM_KEYS
from trainer.tasks.forms import Exchanges, Prompt, read_exchanges
from trainer.tasks.records import Record, read_records, split
from trainer.tasks.shipped import MAKERS, make_records
from trainer.utils.bounded import read_yaml
from trainer.utils.errors import UserError, nearest
from trainer.utils.home import expanded

SHIPPED = Path(__file__).parent / "sets"
KEYS = ("source", "train", "held_out", "templates", "answer", "options", "form")


@dataclass(frozen=True)
class Template:
    """One way to ask, and to answer."""

    input: str
    target: str


@dataclass(frozen=True)
class TemplateSet:
    """The templates of one dataset."""

    templates: tuple[Template, ...]
    answer: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    def render(self, record: Record, number: int) -> tuple[Prompt, str]:
        """(prompt, answer) by the template of that number. Raises UserError naming file, line and field."""
        extra = self._extra(record, answered=True)
        return self._prompt(record, number, extra), _filled(self._template(number).target, record, extra)

    def prompt(self, record: Record, number: int) -> Prompt:
        """The prompt alone, of a record that may have no answer."""
        return self._prompt(record, number, self._extra(record, answered=False))

    def _prompt(self, record: Record, number: int, extra: dict[str, str]) -> str:
        return _filled(self._template(number).input, record, extra)

    def _template(self, number: int) -> Template:
        return self.templates[number % len(self.templates)]

    def _extra(self, record: Record, *, answered: bool) -> dict[str, str]:
        """What a template may name beside the record's fields."""
        extra: dict[str, str] = {}
        if self.options:
            extra["options"] = "OPTIONS:\n" + "\n".join(f"- {name}" for name in self.options.values())
        if answered and self.answer is not None:
            value = record.text(self.answer)
            if self.options and value not in self.options:
                raise UserError(f"{record.where}: {self.answer}: {value!r} is none of {', '.join(self.options)}")
            extra["answer"] = self.options.get(value, value)
        return extra


class AsWritten(TemplateSet):
    """Of records that are a prompt with its answer already, see `Exchanges`."""

    def render(self, record: Record, number: int) -> tuple[Prompt, str]:
        """(prompt, answer)."""
        return record.fields["prompt"], record.fields["answer"]

    def prompt(self, record: Record, number: int) -> Prompt:
        """What is asked alone."""
        prompt: Prompt = record.fields["prompt"]
        return prompt


AS_WRITTEN = AsWritten((Template("{prompt}", "{answer}"),))
Dataset = tuple[TemplateSet, list[Record], list[Record]]  # templates, training records, held-out records


def plain(text: tuple[str, ...], answer: str) -> TemplateSet:
    """Without templates: the texts as they are, and the answer."""
    return TemplateSet((Template("\n".join(f"{{{name}}}" for name in text), f"{{{answer}}}"),))


def _filled(template: str, record: Record, extra: dict[str, str]) -> str:
    """The template with its fields; a name is that of a field as it stands, whatever format() would read in it."""
    parts = string.Formatter().parse(template)
    return "".join(
        text + ("" if not name else extra[name] if name in extra else record.text(name)) for text, name, _, _ in parts
    )


def read_sets(config: Config, key: str = "task.templates") -> list[Dataset]:
    """Every dataset of `task.templates`. key: who named the set, for errors."""
    given = str(config.task.templates)
    path = expanded(given) if given.endswith((".yaml", ".yml")) else SHIPPED / f"{given}.yaml"
    if not path.is_file():
        known = sorted(one.stem for one in SHIPPED.glob("*.yaml"))
        raise UserError(
            f"{key}: {given}: no such file, and no shipped set{nearest(given, known)}; there is {', '.join(known)}"
        )
    datasets = read_yaml(path)
    if not isinstance(datasets, list) or not datasets:
        raise UserError(f"{path}: a list of datasets wanted, each with templates")
    return [_dataset(config, one, f"{path}: dataset {number}") for number, one in enumerate(datasets, 1)]


def _dataset(config: Config, given: Any, where: str) -> Dataset:
    if not isinstance(given, dict):
        raise UserError(f"{where}: keys {', '.join(KEYS)} wanted")
    for name in given:
        if name not in KEYS:
            raise UserError(f"{where}: {name}: no such key{nearest(str(name), KEYS)}; there is {', '.join(KEYS)}")
    if given.get("form") is not None:
        return _in_form(config, given, where)
    listed = given.get("templates") or []
    templates = [_template(one, where) for one in (listed if isinstance(listed, list) else [listed])]
    if not templates:
        raise UserError(f"{where}: templates: at least one wanted")
    options = given.get("options") or {}
    named = dict(options) if isinstance(options, dict) else {str(one): str(one) for one in options}
    found = TemplateSet(tuple(templates), given.get("answer"), {str(key): str(name) for key, name in named.items()})
    return found, *_records(config, given, where)


def _in_form(config: Config, given: dict[str, Any], where: str) -> Dataset:
    """Of files in a form of prompts and answers."""
    form = given["form"]
    if form not in FORM_KEYS:
        near = nearest(str(form), FORM_KEYS)
        raise UserError(f"{where}: form: {form!r} is none{near}; there is {', '.join(FORM_KEYS)}")
    if beside := [name for name in ("source", "templates", "answer", "options") if given.get(name)]:
        raise UserError(f"{where}: form: {form} says what is asked and answered; leave out {beside[0]}")
    train, held_out = _files(given, where)
    if not train:
        raise UserError(f"{where}: form: {form} needs train files")
    return as_written(read_exchanges(train, held_out, form, config.data.held_out, f"{where}: train"))


def as_written(found: Exchanges) -> Dataset:
    """Prompts and answers as a dataset."""
    return AS_WRITTEN, found.train, found.held_out


def _template(given: Any, where: str) -> Template:
    if not isinstance(given, dict) or set(given) != {"input", "target"}:
        raise UserError(f"{where}: templates: each has an 'input' and a 'target'")
    return template(str(given["input"]), str(given["target"]), f"{where}: templates: ")


def template(asks: str, answers: str, where: str) -> Template:
    """One way to ask and to answer. where: begins the errors. Raises UserError where braces hold more than names."""
    found = Template(asks, answers)
    for part, text in (("input", found.input), ("target", found.target)):
        if not _names_fields(text):
            form = "fields are written as {name}, braces as {{ }}"
            raise UserError(f"{where}{part}: {text!r}: {form}")
    if not found.target.strip():
        raise UserError(f"{where}target: an answer of zero tokens")
    return found


def _names_fields(template: str) -> bool:
    """Whether its braces hold names of fields and nothing else."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError:
        return False
    return all(name is None or (name and not form and not conversion) for _, name, form, conversion in parsed)


def _records(config: Config, given: dict[str, Any], where: str) -> tuple[list[Record], list[Record]]:
    if given.get("source"):
        if given["source"] not in MAKERS:
            hint = nearest(str(given["source"]), MAKERS)
            raise UserError(f"{where}: source: no shipped task {given['source']!r}{hint}; there is {', '.join(MAKERS)}")
        return make_records(config, given["source"])
    train, held_out = _files(given, where)
    if not train:
        raise UserError(f"{where}: it needs a source, or train files")
    return split(read_records(train, where), held_out, config.data.held_out, where)


def _files(given: dict[str, Any], where: str) -> tuple[list[str], list[str]]:
    """Names of the training and of the held-out files."""
    files = {name: given.get(name) or [] for name in ("train", "held_out")}
    lists = {name: value if isinstance(value, list) else [value] for name, value in files.items()}
    if wrong := [value for value in (*lists["train"], *lists["held_out"]) if not isinstance(value, str)]:
        raise UserError(f"{where}: {wrong[0]!r} given, names of files wanted")
    return lists["train"], lists["held_out"]
