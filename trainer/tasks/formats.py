"""From a record to what a model reads: one format a kind of task, the same for every family of models.

A row is `<s> text </s>`, of several texts `<s> first </s> second </s>`, as the encoders were pre-trained on it; what an
imported encoder's tokenizer puts there stands in their place. An encoder-decoder reads it on both sides, its decoder
one token behind. Rows are as long as data.sequence_length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.config import Config
from trainer.config.task import class_name
from trainer.data.tokenizer import Tokenizer
from trainer.descriptions.objectives import TEXT
from trainer.objectives import NO_TARGET, Batch
from trainer.objectives.base import as_one_document
from trainer.tasks.forms import ASSISTANT, Prompt, said, spoken
from trainer.tasks.records import Record
from trainer.utils.errors import UserError, nearest

# How prompts and answers follow each other, as in `Format.prompt`, for the chat template of an exported tokenizer.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else sep_token }}{% endfor %}"
)


@dataclass(frozen=True)
class Formatted:
    """One record as arrays without a batch axis, and whether some of its text was cut."""

    arrays: Batch
    cut: bool


class Rows:
    """How texts become rows of tokens, whatever the kind of task."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        self.config, self.task, self.tokenizer = config, config.task, tokenizer
        self.length, self.family = config.data.sequence_length, config.model.family
        self.bos, self.eos, self.pad = (tokenizer.specials[name] for name in ("<s>", "</s>", "<pad>"))
        self.between = [self.eos]  # two texts
        own = tokenizer.template
        if self.family == "encoder" and own is not None and len(own.before) == len(own.behind) == 1:
            [self.bos], [self.eos], self.between = own.before, own.behind, list(own.between)

    def row(self, texts: Sequence[list[int]]) -> tuple[list[int], list[int], bool]:
        """Tokens of a row, the text that each belongs to, and whether something was cut: the longest text, behind."""
        sizes = [len(text) for text in texts]
        available = self.length - 2 - len(self.between) * (len(texts) - 1)
        while sum(sizes) > available:
            longest = int(np.argmax(sizes))
            second = max([size for index, size in enumerate(sizes) if index != longest], default=0)
            sizes[longest] -= min(sum(sizes) - available, max(1, sizes[longest] - second))
        tokens, types = [self.bos], [0]
        for number, (text, size) in enumerate(zip(texts, sizes, strict=True)):
            behind = [self.eos] if number == len(texts) - 1 else self.between
            tokens += [*text[:size], *behind]
            types += [number] * (size + len(behind))
        return tokens, types, sum(sizes) < sum(map(len, texts))

    def source(self, prompt: Prompt) -> tuple[list[int], bool]:
        """What the encoder of an encoder-decoder reads of a prompt, and whether its end was cut. Turns are lines."""
        ids = self.tokenizer.encode(said(prompt))
        before, behind = self._around_source()
        most = self.length - len(before) - len(behind)
        return [*before, *ids[:most], *behind], len(ids) > most

    def _around_source(self) -> tuple[Sequence[int], Sequence[int]]:
        """Special tokens before and behind it. In pre-training a task is read as the objective's whole texts are."""
        if (own := self.tokenizer.template) is not None:
            return own.before, own.behind
        if not self.config.data.tasks:
            return [self.bos], [self.eos]
        form = self.config.objective.description.encoder_input
        place = form.index(TEXT)
        before, behind = (
            [self.tokenizer.specials[name] for name in part] for part in (form[:place], form[place + 1 :])
        )
        return before, behind

    def prompt(self, prompt: Prompt) -> list[int]:
        """`<s> text <sep>`, what an answer follows; without <sep> where the tokenizer or `task.chat` has none. Of a
        conversation as the exported chat template has it, each answer before with its </s>."""
        specials, ids = self.tokenizer.specials, [self.bos]
        asked = [specials["<sep>"]] if self.task.chat and "<sep>" in specials else []
        for turn in spoken(prompt):
            ids += [*self.tokenizer.encode(turn.text), *([self.eos] if turn.role == ASSISTANT else asked)]
        return ids

    def arrays(self, tokens: list[int], types: list[int]) -> Batch:
        """What the model is called with, [S] each: padded, and with an encoder's or a decoder's own side."""
        batch = self.side(tokens, self.length)
        if self.family == "encoder_decoder":
            behind = padded([self.tokenizer.start, *tokens[:-1]], self.length, self.pad)
            return {f"source_{name}": array for name, array in batch.items()} | batch | {"tokens": behind}
        if self.config.model.token_types > 1:
            second = self.tokenizer.second_type
            batch["token_types"] = padded([second if which else 0 for which in types], self.length, 0)
        return batch

    def side(self, tokens: Sequence[int], width: int) -> Batch:
        """What one stack reads of a text that stands alone in its row: tokens, segments, positions [width]."""
        rows = as_one_document(np.zeros((1, width), np.int64), np.array([len(tokens)]))
        return {"tokens": padded(tokens, width, self.pad), **{n: rows[n][0] for n in ("segments", "positions")}}

    def label(self, record: Record, value: Any, field: str) -> int:
        """The number of a class."""
        if isinstance(value, list | dict):
            raise UserError(f"{record.where}: {field}: {type(value).__name__} found, a class wanted")
        name = class_name(value)
        if name not in self.task.labels:
            known = ", ".join(self.task.labels[:12])
            raise UserError(
                f"{record.where}: {field}: {name!r} is none of the {len(self.task.labels)} classes {known}"
                f"{nearest(name, self.task.labels)}"
            )
        return self.task.labels.index(name)


def padded(values: Sequence[int], width: int, fill: int) -> np.ndarray:
    """int64 [width]: the values, and the fill behind them."""
    row = np.full(width, fill, np.int64)
    row[: len(values)] = values
    return row


class Format(Rows, ABC):
    """One kind of task."""

    @abstractmethod
    def __call__(self, record: Record) -> Formatted:
        """The record as arrays. Raises UserError naming its file, line and field."""

    @staticmethod
    def classes(record: Record, field: str) -> list[str]:
        """The classes that the field names; [] where answers are none. Raises UserError as above."""
        return []


class Sequences(Format):
    """One class for one or several texts."""

    def __call__(self, record: Record) -> Formatted:
        texts = [self.tokenizer.encode(record.text(name)) for name in self.task.text]
        tokens, types, cut = self.row(texts)
        field = self.task.answer[0]
        label = self.label(record, record.get(field), field)
        return Formatted(self.arrays(tokens, types) | {"targets": np.array(label)}, cut)

    @staticmethod
    def classes(record: Record, field: str) -> list[str]:
        return [class_name(record.get(field))]


class Words(Format):
    """One class for every word, at its first token."""

    def __call__(self, record: Record) -> Formatted:
        text, field = self.task.text[0], self.task.answer[0]
        words, tags = words_of(record, text), words_of(record, field)
        if len(words) != len(tags):
            raise UserError(f"{record.where}: {text} has {len(words)} words, {field} has {len(tags)}")
        tokens, targets = [self.bos], np.full(self.length, NO_TARGET, np.int64)
        kept = 0
        for word, tag in zip(words, tags, strict=True):
            pieces = self.tokenizer.encode(f" {word}" if kept else str(word))
            if len(tokens) + len(pieces) >= self.length:
                break
            targets[len(tokens)] = self.label(record, tag, field)
            tokens += pieces
            kept += 1
        tokens.append(self.eos)
        return Formatted(self.arrays(tokens, [0] * len(tokens)) | {"targets": targets}, kept < len(words))

    @staticmethod
    def classes(record: Record, field: str) -> list[str]:
        return words_of(record, field)


def words_of(record: Record, field: str) -> list[str]:
    """A list as JSON has it, or words between spaces."""
    value = record.get(field)
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not words:
        raise UserError(f"{record.where}: {field}: a list of words wanted, or words between spaces")
    if wrong := [word for word in words if not isinstance(word, str | int) or not str(word).strip()]:
        raise UserError(f"{record.where}: {field}: {wrong[0]!r} is no word")
    return list(map(class_name, words))


class Spans(Format):
    """Where in the last text the answer stands; at <s> where it has none. A context that is too long loses its end."""

    def __call__(self, record: Record) -> Formatted:
        *before, field = self.task.text
        context = record.text(field)
        ids, places = self.tokenizer.encode(context), self.tokenizer.places(context)
        head = [self.tokenizer.encode(record.text(name)) for name in before]
        tokens, types, cut = self.row([*head, ids])
        inside = np.zeros(self.length, np.int64)
        start = types.index(len(before)) if before else 1
        size = len(tokens) - 1 - start
        inside[start : start + size] = inside[0] = 1
        targets = np.zeros(2, np.int64)
        if answers := answers_of(record, self.task.answer[0], context):
            text, begin = answers[0]
            end = begin + len(text)
            touched = [number for number, (first, last) in enumerate(places) if last > begin and first < end]
            targets[:] = start + touched[0], start + touched[-1]
            if touched[-1] >= size:
                targets[:] = NO_TARGET
        return Formatted(self.arrays(tokens, types) | {"inside": inside, "targets": targets}, cut)


def answers_of(record: Record, field: str, context: str) -> list[tuple[str, int]]:
    """(text, first character) of every accepted answer, as SQuAD's files have them; [] where there is none."""
    value = record.get(field)
    if isinstance(value, dict) and all(isinstance(column, list) for column in value.values()):
        value = [dict(zip(value, one, strict=False)) for one in zip(*value.values(), strict=False)]
    if not isinstance(value, list):
        raise UserError(f"{record.where}: {field}: a list of answers with 'text' and 'answer_start' wanted")
    found = []
    for one in value:
        try:
            text, begin = str(one["text"]), int(one["answer_start"])
        except (TypeError, KeyError, ValueError):
            raise UserError(f"{record.where}: {field}: every answer has a 'text' and an 'answer_start'") from None
        if not text.strip():
            raise UserError(f"{record.where}: {field}: an answer without words; where there is none, write []")
        if context[begin : begin + len(text)] != text:
            raise UserError(f"{record.where}: {field}: {text[:40]!r} does not stand at character {begin}")
        found.append((text, begin))
    return found


class Scored(Format):
    """Two answers to one prompt, each a row of its own, for a reward model: [2, S]."""

    def __call__(self, record: Record) -> Formatted:
        prompt = [self.tokenizer.encode(record.text(name)) for name in self.task.text]
        pair, cut = [], False
        for name in self.task.answer:
            tokens, types, shorter = self.row([*prompt, self.tokenizer.encode(record.text(name))])
            pair.append(self.arrays(tokens, types))
            cut = cut or shorter
        stacked = {name: np.stack([one[name] for one in pair]) for name in pair[0]}
        return Formatted(stacked | {"targets": np.array(0)}, cut)


class Preferred(Format):
    """Two answers to one prompt, [2, S], with the answers' tokens as targets to be: continuations of it, or what a
    decoder writes over an encoder that reads it."""

    def __call__(self, record: Record) -> Formatted:
        text = "".join(record.text(name) for name in self.task.text)
        encodes = self.family == "encoder_decoder"
        source, cut = self.source(text) if encodes else ([], False)
        width = self.task.answer_length if encodes else self.length
        prompt = [self.tokenizer.start] if encodes else self.prompt(text)
        rows = []
        for name in self.task.answer:
            row = continued(prompt, [*self.tokenizer.encode(record.text(name)), self.eos], width)
            cut = cut or row.cut
            rows.append(self.side(row.tokens[:-1], width) | {"answers": padded(row.targets[1:], width, NO_TARGET)})
            if encodes:
                rows[-1] |= {f"source_{name}": array for name, array in self.side(source, self.length).items()}
        return Formatted(
            {name: np.stack([row[name] for row in rows]) for name in rows[0]} | {"targets": np.array(0)}, cut
        )


@dataclass(frozen=True)
class Continued:
    """A prompt and its answer as one text; targets are -100 in the prompt."""

    tokens: list[int]
    targets: list[int]
    cut: bool


def continued(prompt: list[int], answer: list[int], length: int) -> Continued:
    """At most length + 1 tokens: a prompt that is too long loses its beginning (behind <s>), an answer its end."""
    most = length + 1
    kept = answer[: most - 2]
    available = most - len(kept)
    head = prompt if len(prompt) <= available else [prompt[0], *prompt[len(prompt) - available + 1 :]]
    cut = len(kept) < len(answer) or len(head) < len(prompt)
    return Continued([*head, *kept], [*[NO_TARGET] * len(head), *kept], cut)
