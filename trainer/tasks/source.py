"""A task as something to learn from: its records, and the examples that a run reads in place of a corpus' windows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from trainer.config import Config
from trainer.data.order import Order
from trainer.data.samples import blank
from trainer.data.tokenizer import Tokenizer
from trainer.data.usage import DataUsage
from trainer.objectives import PADDING, Batch
from trainer.tasks.forms import read_exchanges
from trainer.tasks.records import Record, each, read_records, split
from trainer.tasks.shipped import make_records
from trainer.tasks.templates import Dataset, TemplateSet, as_written, plain, read_sets
from trainer.utils.errors import UserError

Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class Asked:
    """A record, and the templates that it can be asked by, where its task is a text."""

    record: Record
    templates: TemplateSet


@dataclass(frozen=True)
class Task:
    """The records of both splits; stands where pre-training has its prepared corpus."""

    tokenizer_file: Path
    train: list[Asked] = field(repr=False)
    held_out: list[Asked] = field(repr=False)
    fingerprint: str  # sha256 of the records, their templates and the tokenizer
    notes: tuple[str, ...] = ()  # what was found out about the files, a line each


def open_task(config: Config) -> Task:
    """Read or make the records. Raises UserError naming the file, the line and what is wrong."""
    task, notes = config.task, []
    if task.templates is not None:
        sets = read_sets(config)
    elif task.reads_forms:
        found = read_exchanges(task.train, task.held_out, task.form, config.data.held_out, "task.train")
        sets, notes = [as_written(found)], [found.text]
    else:
        templates = plain(task.text, task.answer[0])
        if task.source == "files":
            both = split(read_records(task.train, "task.train"), task.held_out, config.data.held_out, "task.held_out")
        else:
            both = make_records(config, task.source)
        sets = [(templates, *both)]
    return task_of(sets, Path(str(config.tokenizer.path)), notes)


def task_of(sets: Sequence[Dataset], tokenizer: Path, notes: Sequence[str] = ()) -> Task:
    """The records of these datasets as one task."""
    train = [Asked(one, templates) for templates, records, _ in sets for one in records]
    held_out = [Asked(one, templates) for templates, _, records in sets for one in records]
    content = [[[one.record.fields, repr(one.templates)] for one in part] for part in (train, held_out)]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    digest.update(tokenizer.read_bytes())
    return Task(tokenizer, train, held_out, digest.hexdigest(), tuple(notes))


def longest(config: Config, task: Task) -> int:
    """Tokens of the longest record, as rows of data.sequence_length have it; all of them for rows that hold several."""
    if config.task.packs:
        return config.data.sequence_length
    tokenizer = Tokenizer(task.tokenizer_file, config.tokenizer.special_ids)
    return max(made(part, config, tokenizer).longest for part in (task.train, task.held_out))


def classes(config: Config, task: Task) -> tuple[str, ...]:
    """The classes that the training records name, sorted; () for tasks without classes. Raises UserError for one."""
    name = config.task.answer[0]
    if config.task.description is None or not config.task.description.classes:
        return ()
    named = config.task.part().classes
    found = {one_class for one in task.train for one_class in named(one.record, name)}
    if len(found) < 2:
        raise UserError(f"task.train: {name}: all records are of the class {found.pop()!r}; two or more wanted")
    return tuple(sorted(found))


def made(asked: list[Asked], config: Config, tokenizer: Tokenizer) -> Rows:
    """What records become. Raises UserError naming file, line and field."""
    if config.task.packs or config.task.writes:
        rows: Rows = config.task.part()([(one.record, one.templates) for one in asked], config, tokenizer)
        return rows
    return Records([one.record for one in asked], config, tokenizer)


class Rows(Protocol):
    """What the examples of an epoch are made of."""

    cut: int  # records of which some text was cut
    longest: int  # tokens of the longest record, where none share a row

    def __len__(self) -> int: ...

    def row(self, place: int, turn: int | None) -> Batch:
        """The row of that place, without a batch axis. turn: the sample's number; null: held out, always alike."""
        ...


class Examples:
    """Records as batches; a sample is a pure function of (task, science config, its number).

    The training split is read in a new order every epoch. The held-out split is read in order; past its end all is
    padding.
    """

    def __init__(self, task: Task, config: Config, which: Split) -> None:
        tokenizer = Tokenizer(task.tokenizer_file, config.tokenizer.special_ids)
        self.pad = tokenizer.specials["<pad>"]
        asked = task.train if which == "train" else task.held_out
        self.records = len(asked)
        self.name, self.tokens = config.task.name, config.data.sequence_length * config.task.rows
        self.rows = made(asked, config, tokenizer)
        self.order = Order(len(self.rows), config.seed) if which == "train" else None

    def __len__(self) -> int:
        """Samples of one epoch."""
        return len(self.rows)

    @property
    def cut(self) -> int:
        """Records of which some text was cut."""
        return self.rows.cut

    def batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1 of the endless run; the first axis of every array is stop - start."""
        if self.order is None:
            rows = [self.rows.row(place, None) for place in range(start, min(stop, len(self)))]
        else:
            places = self.order(start, stop).tolist()
            rows = [self.rows.row(place, start + number) for number, place in enumerate(places)]
        missing = stop - start - len(rows)
        if missing:
            first = {name: array[None] for name, array in self.rows.row(0, None).items()}
            rows += [{name: array[0] for name, array in blank(first, self.pad).items()}] * missing
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def where(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The row of each of these samples; a record is read from its beginning."""
        rows = range(start, stop) if self.order is None else self.order(start, stop).tolist()
        return [(row, 0) for row in rows]

    def usage(self, stop: int) -> list[DataUsage]:
        """How much of the task samples 0..stop-1 were."""
        return [DataUsage(0, self.name, stop, stop * self.tokens, stop / len(self))]


class Records:
    """One record a row. All are formatted once, so that everything that is wrong with one is found before the run."""

    def __init__(self, records: list[Record], config: Config, tokenizer: Tokenizer) -> None:
        formatted = each(config.task.part()(config, tokenizer), records)
        self.cut = sum(one.cut for one in formatted)
        self.rows = [one.arrays for one in formatted]
        read = (row.get("source_segments", row["segments"]) for row in self.rows)
        self.longest = max((int((segments != PADDING).sum(-1).max()) for segments in read), default=0)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, place: int, turn: int | None) -> Batch:
        """As Rows."""
        return self.rows[place]
