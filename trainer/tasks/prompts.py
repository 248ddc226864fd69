"""Prompts that a policy answers by itself: rows with room for what it will write."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from trainer.config import Config
from trainer.data.tokenizer import Tokenizer
from trainer.objectives import NO_TARGET, Batch
from trainer.objectives.noise import below, rows
from trainer.tasks.formats import Rows, padded
from trainer.tasks.forms import said
from trainer.tasks.records import Record, each
from trainer.tasks.templates import TemplateSet
from trainer.utils.errors import UserError

HELD_OUT = -1  # number of a sample that is none of the run


@dataclass(frozen=True)
class Prompt:
    """A record as it is asked."""

    ids: list[int]  # that are read before the answer is written
    text: str
    answer: str | None  # the right one, where the reward reads it
    record: Record
    words: list[int] = field(default_factory=list)  # tokens of the text


class Prompts:
    """Records by their templates, one a row, as often as there are answers to be.

    Which template a record is asked by is drawn anew every epoch, by the number of the sample.
    """

    def __init__(self, asked: list[tuple[Record, TemplateSet]], config: Config, tokenizer: Tokenizer) -> None:
        self.form, self.task, self.seed = Rows(config, tokenizer), config.task, config.seed
        self.encodes, self.length = config.model.family == "encoder_decoder", config.data.sequence_length
        # The last token of an answer is read by nobody.
        self.most = self.length if self.encodes else self.length - self.task.max_new_tokens + 1
        self.width = self.task.max_new_tokens if self.encodes else self.length
        # Records of a shipped task do not know of this model; a prompt of one's own that is too long is told.
        self.shortens, self.cut = self.task.source != "files", 0
        self.ways = each(self._ways, asked)
        read = max((len(one.ids) for ways in self.ways for one in ways), default=0)
        self.longest = read + self.length - self.most

    def _ways(self, asked: tuple[Record, TemplateSet]) -> list[Prompt]:
        """The record by every template."""
        record, templates = asked
        return [self._prompt(record, templates, number) for number in range(len(templates.templates))]

    def _prompt(self, record: Record, templates: TemplateSet, number: int) -> Prompt:
        answer = None
        if self.task.reads_answer:
            asked, answer = templates.render(record, number)
        else:
            asked = templates.prompt(record, number)
        form, text = self.form, said(asked)
        own = form.tokenizer.template
        before, behind = ([form.bos], [form.eos]) if own is None else (own.before, own.behind)
        words = form.tokenizer.encode(text)
        ids = [*before, *words, *behind] if self.encodes else form.prompt(asked)
        if 0 < (over := len(ids) - self.most) < len(words) and self.shortens:
            self.cut += 1
            words = words[:-over] if self.encodes else words[over:]
            ids = [*before, *words, *behind] if self.encodes else [ids[0], *ids[1 + over :]]
            text = form.tokenizer.decode(words)
        if len(ids) > self.most:
            room = "" if self.encodes else f" with task.max_new_tokens={self.task.max_new_tokens}"
            raise UserError(
                f"{record.where}: a prompt of {len(ids)} tokens; {max(self.most, 0)} fit{room} into "
                f"data.sequence_length={self.length}"
            )
        return Prompt(ids, text, answer, record, words)

    def __len__(self) -> int:
        return len(self.ways)

    def asked_as(self, place: int, turn: int) -> Prompt:
        """The record of that place as the sample of number `turn` asks it; HELD_OUT: always alike."""
        ways = self.ways[place]
        if turn == HELD_OUT:
            return ways[place % len(ways)]
        raw = rows(self.seed, "template", np.array([turn]), 1)[0]
        return ways[int(below(raw, len(ways))[0])]

    def row(self, place: int, turn: int | None) -> Batch:
        """As Rows: what the model reads of the prompt [k, S], as long as it may become; targets [k], 0 each; the
        place and the number of the sample."""
        turn = HELD_OUT if turn is None else turn
        ids = self.asked_as(place, turn).ids
        if self.encodes:
            source = self.form.side(ids, self.length)
            batch = {f"source_{name}": array for name, array in source.items()}
            batch |= self.form.side([self.form.pad] * self.width, self.width)
        else:
            batch = self.form.side([*ids, *[self.form.pad] * (self.width - self.most)], self.width)
        batch = {name: np.repeat(array[None], self.task.samples, axis=0) for name, array in batch.items()}
        batch["targets"] = np.zeros(self.task.samples, np.int64)
        return batch | {"place": np.array(place), "turn": np.array(turn)}

    def answered(self, prompt: Prompt, answer: list[int]) -> Batch:
        """What the model reads of a prompt with an answer, and `answers` [S], the next token of the answer or -100."""
        start = [self.form.tokenizer.start] if self.encodes else prompt.ids
        read = [*start, *answer[:-1]]
        targets = [*[NO_TARGET] * (len(start) - 1), *answer]
        return self.form.side(read, self.width) | {"answers": padded(targets, self.width, NO_TARGET)}
