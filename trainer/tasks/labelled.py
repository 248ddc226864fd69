"""Labelled tasks mixed into the text of pre-training (Raffel et al. 2020, section 3.5.2): what such a run reads.

Sample i of the run is sample j of the text or of one task, as `Interleaving` says. Sample j of the text is what it is
in a run on the text alone, sample j of a task the record that an order of its own has there. So what a sample is stays
a pure function of its number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trainer.books.lengths import lengths
from trainer.config import Config, LabelledTaskConfig
from trainer.data import Prepared, Samples
from trainer.data.order import Order
from trainer.data.usage import DataUsage
from trainer.objectives import NO_TARGET, PADDING, Batch
from trainer.tasks.answers import Answers
from trainer.tasks.forms import read_exchanges
from trainer.tasks.interleaving import Interleaving
from trainer.tasks.rates import TEXT, example_rates, sample_shares
from trainer.tasks.records import read_records, split
from trainer.tasks.shipped import FIELDS, make_records
from trainer.tasks.source import Examples, Split, Task, task_of
from trainer.tasks.templates import TemplateSet, as_written, plain, read_sets, template
from trainer.utils.errors import UserError

FILL = {"segments": PADDING, "targets": NO_TARGET}  # behind a shorter row; tokens: <pad>, all others: 0


@dataclass(frozen=True)
class MixedData:
    """A prepared corpus, and the tasks beside it by their names, in alphabetical order."""

    text: Prepared
    tasks: dict[str, Task]

    @property
    def tokenizer_file(self) -> Path:
        return self.text.tokenizer_file

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of what there is to read."""
        parts = [self.text.fingerprint, *(f"{name} {task.fingerprint}" for name, task in self.tasks.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def open_mixed(config: Config, text: Prepared) -> MixedData:
    """The tasks of `data.tasks` beside the text. Raises UserError naming the file, the line and what is wrong."""
    tasks = {name: _open(config, name, text.tokenizer_file) for name in sorted(config.data.tasks)}
    for name, task in tasks.items():
        if config.data.tasks[name].held_out:  # else the records are divided by their own hash, or the corpus is
            _refuse_leaks(name, task)
    return MixedData(text, tasks)


def _open(config: Config, name: str, tokenizer: Path) -> Task:
    given, key = config.data.tasks[name], f"data.tasks.{name}"
    one = of_task(config, name)
    if given.templates is not None:
        return task_of(read_sets(one, f"{key}.templates"), tokenizer)
    if given.source is None and given.input is None:
        found = read_exchanges(given.train, given.held_out, given.form, config.data.held_out, f"{key}.train")
        return task_of([as_written(found)], tokenizer, [found.text])
    templates = _templates(given, key)
    if given.source is None:
        both = split(read_records(given.train, f"{key}.train"), given.held_out, config.data.held_out, f"{key}.held_out")
    else:
        both = make_records(one, given.source, f"{key}.source={given.source}")
    return task_of([(templates, *both)], tokenizer)


def _templates(given: LabelledTaskConfig, key: str) -> TemplateSet:
    """How its records are asked and answered."""
    if given.input is not None:
        return TemplateSet((template(given.input, given.target, f"{key}."),), given.answer, given.options)
    if given.source not in FIELDS:
        raise UserError(f"{key}.source: {given.source} has no text as its answer; there is {', '.join(FIELDS)}")
    return plain(*FIELDS[given.source])


def _refuse_leaks(name: str, task: Task) -> None:
    """Raise UserError where a held-out record is a training record too."""
    trained = {repr(one.record.fields): one.record.where for one in task.train}
    for one in task.held_out:
        if (where := trained.get(repr(one.record.fields))) is not None:
            raise UserError(
                f"data.tasks.{name}.held_out: {one.record.where} is the same record as {where}, which is trained on; "
                "take it out of one of the files"
            )


def of_task(config: Config, name: str, *, converses: bool = False) -> Config:
    """The run's configuration with the task as its task: how its records become rows. converses: as `as_task`."""
    width = lengths(config).target or config.data.sequence_length
    task = config.data.tasks[name].as_task(name, width, converses=converses)
    return config.model_copy(update={"task": task})


class TaskSamples(Examples):
    """The records of one task as samples of pre-training."""

    def __init__(self, task: Task, config: Config, name: str, which: Split) -> None:
        converses = any(isinstance(one.record.fields.get("prompt"), tuple) for one in task.train)
        super().__init__(task, of_task(config, name, converses=converses), which)
        self.two_ways = config.model.family == "decoder" and len(config.objective.description.parts) == 2
        if which == "train":  # another order than that of other tasks and of text
            stream = 1 << 62 | int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
            self.order = Order(len(self.rows), config.seed, ("order", stream))

    def members(self, row: int) -> list[int]:
        """The numbers of the records that share a row."""
        assert isinstance(self.rows, Answers)
        return self.rows.bins[row]

    def batch(self, start: int, stop: int) -> Batch:
        """As of every task; where the objective reads prefixes in both directions, prompts are such."""
        batch = super().batch(start, stop)
        return batch | {"order": prompt_order(batch)} if self.two_ways else batch


def prompt_order(batch: Batch) -> np.ndarray:
    """int32 [B, S]: 0 throughout each prompt, behind it the position: as `trainer.objectives.causal.PrefixLM` has it.

    A prompt ends with the token that predicts the first one of the answer."""
    answered = np.cumsum(batch["targets"] != NO_TARGET, axis=1)
    before = np.concatenate([np.zeros((len(answered), 1), answered.dtype), answered[:, :-1]], axis=1)
    begin = np.arange(before.shape[1]) - batch["positions"]  # of each token's document
    inside = before == np.take_along_axis(before, begin, axis=1)
    return np.where(inside, 0, batch["positions"]).astype(np.int32)


class MixedSamples:
    """Samples of the text and of the tasks, by their numbers in the run: a `trainer.data.Examples`."""

    def __init__(self, source: MixedData, config: Config) -> None:
        self.config, self.text = config, Samples(source.text, config, "train")
        self.pad = self.text.pad
        self.tasks = {name: TaskSamples(task, config, name, "train") for name, task in source.tasks.items()}
        self.sizes = {TEXT: len(self.text)} | {name: task.records for name, task in self.tasks.items()}
        rows = {TEXT: len(self.text)} | {name: len(task) for name, task in self.tasks.items()}
        self.rates = example_rates(config.data, self.sizes)
        self.shares = sample_shares(config.data, self.sizes, rows)
        self.mixing = Interleaving(self.shares)
        self.width = lengths(config).target or config.data.sequence_length  # of the decoder's rows

    def __len__(self) -> int:
        """Samples of one epoch of each, which take turns of other lengths."""
        return len(self.text) + sum(map(len, self.tasks.values()))

    def of(self, start: int, stop: int) -> list[tuple[str, int]]:
        """(source, number of the sample among those of its source) of each of these samples."""
        return [self.mixing(sample) for sample in range(start, stop)]

    def batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1 of the endless run; the first axis of every array is stop - start."""
        drawn = self.of(start, stop)
        batch: Batch = {}
        for name in dict.fromkeys(name for name, _ in drawn):
            mine = np.array([row for row, (owner, _) in enumerate(drawn) if owner == name])
            first = drawn[mine[0]][1]
            part = (self.text if name == TEXT else self.tasks[name]).batch(first, first + len(mine))
            part = {key: self._widened(key, array) for key, array in part.items()}
            for key, array in part.items():
                whole = batch.setdefault(key, np.empty((stop - start, *array.shape[1:]), array.dtype))
                whole[mine] = array
        return batch

    def _widened(self, key: str, array: np.ndarray) -> np.ndarray:
        """A decoder's rows, as wide as those of the longest answers."""
        if key.startswith("source_") or array.ndim < 2 or array.shape[1] == self.width:
            return array
        fill = self.pad if key == "tokens" else FILL.get(key, 0)
        return np.pad(array, ((0, 0), (0, self.width - array.shape[1])), constant_values=fill)

    def where(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Where each of these samples begins: its document of the text and the tokens before, or its task's row."""
        places = []
        for name, number in self.of(start, stop):
            places += (self.text if name == TEXT else self.tasks[name]).where(number, number + 1)
        return places

    def usage(self, stop: int) -> list[DataUsage]:
        """How much of the text, by its sources, and of each task samples 0..stop-1 were."""
        counts = self.mixing.counts(stop)
        found = self.text.usage(counts[TEXT])
        return found + [one for name, task in self.tasks.items() for one in task.usage(counts[name])]


def check_mixed(source: MixedData, config: Config) -> list[str]:
    """Raise UserError where these cannot serve the run; returns a line for each."""
    mixed = MixedSamples(source, config)
    _same_arrays(mixed, config)
    Samples(source.text, config, "held_out")
    return [
        f"{one['name']:<12} {one['share']:.4f} of the samples: {one['records']:,} "
        + ("samples an epoch" if one["name"] == TEXT else f"records in {one['rows']:,} rows, {one['cut']:,} cut to fit")
        + ("" if one["name"] == TEXT else f"; held out {one['held_out']:,}")
        + "".join(f"; {note}" for note in one["notes"])
        for one in described(source, config, mixed)
    ]


def _same_arrays(mixed: MixedSamples, config: Config) -> None:
    """Raise UserError where the objective gives a model more than the rows of a task have."""
    text = mixed.text.batch(0, 1).keys()
    task = next(iter(mixed.tasks.values())).batch(0, 1).keys()
    if text != task:
        differ = ", ".join(sorted(text ^ task))
        raise UserError(f"data.tasks: objective={config.objective.name} has {differ} in its batches, tasks have not")


def described(source: MixedData, config: Config, mixed: MixedSamples | None = None) -> Iterator[dict[str, Any]]:
    """What is known of the text and of each task: sizes, rate (a share of the examples), share (of the samples)."""
    mixed = mixed or MixedSamples(source, config)
    for name, share in mixed.shares.items():
        common = {"name": name, "records": mixed.sizes[name], "rate": float(mixed.rates[name]), "share": float(share)}
        if name == TEXT:
            yield common | {"rows": mixed.sizes[name], "cut": 0, "held_out": None, "held_out_rows": None, "notes": []}
            continue
        held_out, task = TaskSamples(source.tasks[name], config, name, "held_out"), source.tasks[name]
        yield common | {
            "rows": len(mixed.tasks[name]),
            "cut": mixed.tasks[name].cut,
            "held_out": held_out.records,
            "held_out_rows": len(held_out),
            "notes": list(task.notes),
        }
