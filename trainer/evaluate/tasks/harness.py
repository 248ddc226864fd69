"""Tasks in lm-evaluation-harness's YAML, from local files: the part of its format that is data and templates.

Templates are Jinja2, run in a sandbox. What a task file would do by Python code (`!function`, filters of answers) is
refused by name, so that a score is never that of half a task.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import yaml

from trainer.evaluate.tasks.metrics import BY_OUTPUT
from trainer.evaluate.tasks.rows import Row, read_rows
from trainer.evaluate.tasks.task import Item, Metric, Task
from trainer.evaluate.tasks.template import render
from trainer.utils.bounded import read_yaml, whole_number
from trainer.utils.errors import UserError, nearest

NEEDED = ("task", "dataset_path", "dataset_kwargs", "output_type", "doc_to_target")
SPLITS = ("test_split", "validation_split")
READ = (
    *NEEDED,
    *("doc_to_text", "doc_to_choice", "training_split", *SPLITS, "fewshot_split", "num_fewshot", "description"),
    *("fewshot_delimiter", "target_delimiter", "metric_list", "generation_kwargs", "include"),
)
TEXTS = ("task", "doc_to_text", "training_split", *SPLITS, "fewshot_split", "description", "fewshot_delimiter")
KINDS: dict[str, tuple[type, str]] = {  # of the values of some keys; null is as good as no key
    **dict.fromkeys((*TEXTS, "target_delimiter"), (str, "a text")),
    **dict.fromkeys(("dataset_kwargs", "generation_kwargs"), (dict, "keys and values")),
    "metric_list": (list, "a list"),
    "num_fewshot": (int, "a whole number"),
}
IGNORED = ("metadata", "tag", "task_alias", "version", "should_decontaminate", "doc_to_decontamination", "dataset_name")
OWN_METRICS = {
    "multiple_choice": ("acc", "acc_norm"),
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "generate_until": ("exact_match",),
}


class _Code(str):
    """The name of a Python function that a task file asks for."""


class _Loader(yaml.SafeLoader):
    """YAML without Python objects."""


_Loader.add_constructor("!function", lambda loader, node: _Code(node.value))


def read_tasks(path: Path) -> list[Task]:
    """The task of a YAML file, or those of all YAML files of a folder. Raises UserError, naming file and key."""
    files = [path] if path.is_file() else sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    if not files:
        raise UserError(f"tasks: {path} holds no task files (.yaml)")
    tasks = []
    for file in files:
        keys = _keys(file)
        if path.is_file() or "task" in keys:  # a folder may also hold files that others include
            tasks.append(_Reading(file, keys).task())
    return tasks


def _keys(file: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A task file's keys that are not null, over those of the file that it includes."""
    if file.resolve() in including:
        raise UserError(f"{including[-1]}: include: {file.name} includes this file in turn")
    keys = read_yaml(file, _Loader)
    if not isinstance(keys, dict):
        raise UserError(f"{file}: no task: keys and values wanted")
    included: dict[str, Any] = {}
    if "include" in keys:
        included = _keys(file.parent / str(keys.pop("include")), (*including, file.resolve()))
    return included | {key: value for key, value in keys.items() if value is not None}


def _wrong(keys: dict[str, Any]) -> list[str]:
    """What is missing, unknown or of another kind than wanted."""
    wrong = [f"{key} is missing" for key in NEEDED if key not in keys]
    if not any(split in keys for split in SPLITS):
        wrong.append("test_split is missing (or validation_split)")
    for key, value in keys.items():
        if isinstance(value, _Code):
            wrong.append(f"{key}: !function {value} is Python code; write it as a template")
        elif key not in (*READ, *IGNORED):
            wrong.append(f"{key} is not read here{nearest(str(key), READ)}")
        elif not isinstance(value, KINDS.get(key, (object, ""))[0]):
            wrong.append(f"{key}: {value!r} given, {KINDS[key][1]} wanted")
    if keys.get("output_type", "generate_until") not in BY_OUTPUT:
        hint = nearest(str(keys["output_type"]), BY_OUTPUT)
        wrong.append(f"output_type: {keys['output_type']!r} is none of {', '.join(BY_OUTPUT)}{hint}")
    if keys.get("output_type") == "multiple_choice" and "doc_to_choice" not in keys:
        wrong.append("doc_to_choice is missing, which output_type multiple_choice needs")
    if keys.get("output_type") != "loglikelihood_rolling" and "doc_to_text" not in keys:
        wrong.append("doc_to_text is missing")
    if keys.get("dataset_path", "json") != "json":
        wrong.append(f"dataset_path: {keys['dataset_path']!r} given, 'json' wanted: local files alone are read")
    return wrong


class _Reading:
    """One task file on its way to a Task."""

    def __init__(self, file: Path, keys: dict[str, Any]) -> None:
        self.file, self.keys = file, keys
        if wrong := _wrong(keys):
            raise UserError("\n".join(f"{file}: {line}" for line in wrong))
        self.output, self.generation = keys["output_type"], keys.get("generation_kwargs", {})

    def task(self) -> Task:
        keys = self.keys
        own = next(split for split in SPLITS if split in keys)
        shown = next((k for k in ("fewshot_split", "training_split", *SPLITS[::-1]) if k in keys), own)
        items = tuple(self._item(row) for row in self._rows(own))
        examples = items if keys[shown] == keys[own] else tuple(self._item(row) for row in self._rows(shown))
        return Task(
            name=keys["task"],
            output=self.output,
            items=items,
            examples=examples,
            metrics=self._metrics(),
            description=keys.get("description", ""),
            delimiter=keys.get("fewshot_delimiter", "\n\n"),
            target_delimiter=keys.get("target_delimiter", " "),
            until=self._until(),
            tokens=self._whole("generation_kwargs.max_gen_toks", self.generation.get("max_gen_toks", 256), 1),
            shots=self._whole("num_fewshot", keys.get("num_fewshot", 0), 0),
        )

    def _whole(self, key: str, value: Any, least: int) -> int:
        number = whole_number(str(value))
        if number is None or number < least:
            raise UserError(f"{self.file}: {key}: {value!r} given, a whole number from {least} wanted")
        return number

    # --- rows ---

    def _rows(self, split_key: str) -> list[Row]:
        files, split = self.keys["dataset_kwargs"].get("data_files"), self.keys[split_key]
        if files is None:
            raise UserError(f"{self.file}: dataset_kwargs.data_files is missing")
        if isinstance(files, dict):
            if split not in files:
                has = ", ".join(map(str, files))
                raise UserError(f"{self.file}: {split_key}: dataset_kwargs.data_files has no {split!r}; it has {has}")
            files = files[split]
        elif split != "train":
            raise UserError(
                f"{self.file}: {split_key}: {split!r} given; data_files without splits are the split 'train'"
            )
        names = [files] if isinstance(files, str) else files
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{self.file}: dataset_kwargs.data_files: {files!r} given, names of files wanted")
        rows = [row for name in names for row in read_rows(self._path(name))]
        if not rows:
            raise UserError(f"{self.file}: {split_key}: there is no row in {', '.join(names)}")
        return rows

    def _path(self, name: str) -> Path:
        beside = self.file.parent / name
        return beside if beside.is_file() else Path(name)

    # --- templates ---

    def _item(self, row: Row) -> Item:
        text = "" if "doc_to_text" not in self.keys else str(self._render("doc_to_text", row))
        if self.output != "multiple_choice":
            target = self._render("doc_to_target", row)
            answers = tuple(map(str, target)) if isinstance(target, list) else (str(target),)
            if self.output != "generate_until" and not answers[0]:
                raise UserError(f"{row.where}: doc_to_target: an answer of zero tokens")
            return Item(text, answers)
        choices = self._render("doc_to_choice", row)
        if isinstance(choices, dict):
            choices = list(choices.values())
        choices = self._listed("doc_to_choice", choices, row)
        label = self._label(self._render("doc_to_target", row), choices, row)
        return Item(text, (choices[label],), choices, label)

    def _listed(self, key: str, value: Any, row: Row) -> tuple[str, ...]:
        if isinstance(value, str):
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                value = None
        if not isinstance(value, list | tuple) or len(value) < 2:
            raise UserError(f"{row.where}: {key} gives no list of two or more choices")
        if empty := [str(choice) for choice in value if not str(choice)]:
            raise UserError(f"{row.where}: {key}: an answer of zero tokens ({len(empty)} of {len(value)} are empty)")
        return tuple(map(str, value))

    def _label(self, target: Any, choices: tuple[str, ...], row: Row) -> int:
        """From a number, or from the text of a choice."""
        number = int(target) if isinstance(target, bool) else whole_number(str(target))
        if number is None and str(target) in choices:
            return choices.index(str(target))
        if number is None or not 0 <= number < len(choices):
            raise UserError(f"{row.where}: doc_to_target gives {target!r}, none of the {len(choices)} choices")
        return number

    def _render(self, key: str, row: Row) -> Any:
        """The value of a key for one row: a number or list as it stands, a field by its name, or a template."""
        given = self.keys[key]
        if not isinstance(given, str):
            return given
        if given in row.fields:
            return row.fields[given]
        try:
            return render(given, row.fields)
        except Exception as error:  # a template may do anything to the values of a row
            raise UserError(f"{self.file}: {key}: {' '.join(str(error).split())} ({row.where})") from None

    # --- how answers are judged ---

    def _metrics(self) -> tuple[Metric, ...]:
        allowed = BY_OUTPUT[self.output]
        listed = self.keys.get("metric_list") or [{"metric": name} for name in OWN_METRICS[self.output]]
        found = []
        for entry in listed:
            name = entry.get("metric") if isinstance(entry, dict) else None
            if name not in allowed:
                hint = f"{nearest(str(name), allowed)}; there is {', '.join(allowed)}"
                raise UserError(f"{self.file}: metric_list: no metric {name or entry!r} for {self.output}{hint}")
            options = {key: bool(entry.get(key)) for key in ("ignore_case", "ignore_punctuation")}
            found.append(Metric(name, **options))
        return tuple(found)

    def _until(self) -> tuple[str, ...]:
        if self.generation.get("do_sample") or self.generation.get("temperature"):
            raise UserError(
                f"{self.file}: generation_kwargs: answers are written greedily; do_sample=false, temperature=0"
            )
        until = self.generation.get("until", self.keys.get("fewshot_delimiter", "\n\n"))
        texts = [until] if isinstance(until, str) else until
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise UserError(f"{self.file}: generation_kwargs.until: {until!r} given, texts wanted")
        return tuple(texts)
