"""Prompts and answers: loss on the answer only, several in one row, each a document of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.config import Config
from trainer.data.tokenizer import Tokenizer
from trainer.objectives import NO_TARGET, PADDING, Batch
from trainer.objectives.noise import below, rows
from trainer.tasks.formats import Continued, Rows, continued
from trainer.tasks.forms import Prompt
from trainer.tasks.records import Record, each
from trainer.tasks.templates import TemplateSet


@dataclass(frozen=True)
class Exchange:
    """A prompt with its answer. source: what an encoder reads, empty for decoders; text: the decoder's side."""

    source: list[int]
    text: Continued

    @property
    def size(self) -> tuple[int, int]:
        return len(self.source), len(self.text.tokens) - 1


class Answers:
    """Records by their templates, packed (`data.packing=packed`) or one a row.

    Which records share a row is fixed, by their longest rendering; which template a record is asked by is drawn anew
    every epoch, by the number of the sample.
    """

    def __init__(self, asked: list[tuple[Record, TemplateSet]], config: Config, tokenizer: Tokenizer) -> None:
        self.form, self.config, self.seed = Rows(config, tokenizer), config, config.seed
        self.encodes = config.model.family == "encoder_decoder"
        self.width = config.task.answer_length if self.encodes else config.data.sequence_length
        self.exchanges = each(self._renderings, asked)
        self.cut = sum(any(one.text.cut for one in ways) for ways in self.exchanges)
        self.bins = self._bins()

    def _renderings(self, asked: tuple[Record, TemplateSet]) -> list[Exchange]:
        """The record by every template."""
        record, templates = asked
        return [self._exchange(*templates.render(record, number)) for number in range(len(templates.templates))]

    def _exchange(self, prompt: Prompt, answer: str) -> Exchange:
        form = self.form
        answered = [*form.tokenizer.encode(answer), form.eos]
        if not self.encodes:
            return Exchange([], continued(form.prompt(prompt), answered, self.width))
        source, cut = form.source(prompt)
        text = continued([form.tokenizer.start], answered, self.width)
        return Exchange(source, Continued(text.tokens, text.targets, text.cut or cut))

    def _bins(self) -> list[list[int]]:
        """Neighbours share a row as long as they fit, whatever their templates."""
        if self.config.data.packing == "padded":
            return [[number] for number in range(len(self.exchanges))]
        bins: list[list[int]] = [[]]
        used = np.zeros(2, np.int64)
        for number, ways in enumerate(self.exchanges):
            size = np.max([one.size for one in ways], axis=0)
            if bins[-1] and (used + size > (self.config.data.sequence_length, self.width)).any():
                bins.append([])
                used[:] = 0
            bins[-1].append(number)
            used += size
        return bins

    def __len__(self) -> int:
        return len(self.bins)

    def row(self, place: int, turn: int | None) -> Batch:
        """As Rows: tokens, targets, segments, positions [S], and an encoder's side."""
        members = self.bins[place]
        if turn is None:
            drawn = members
        else:
            raw = rows(self.seed, "template", np.array([turn]), len(members))[0]
            drawn = [int(below(bits, len(self.exchanges[m]))) for m, bits in zip(members, raw, strict=True)]
        return self._row([self.exchanges[m][n % len(self.exchanges[m])] for m, n in zip(members, drawn, strict=True)])

    def alone(self, prompt: Prompt, answer: str) -> Batch:
        """The row of one prompt and answer."""
        return self._row([self._exchange(prompt, answer)])

    def asked(self, prompt: Prompt, answer: str) -> tuple[list[int], int]:
        """The tokens that are read before an answer is written, and how many the right one has, `</s>` included."""
        one = self._exchange(prompt, answer)
        size = sum(target != NO_TARGET for target in one.text.targets)
        return one.source or one.text.tokens[:-size], size

    def _row(self, chosen: list[Exchange]) -> Batch:
        batch = self._side([one.text.tokens[:-1] for one in chosen], self.width)
        targets = [token for one in chosen for token in one.text.targets[1:]]
        batch["targets"] = np.array(targets + [NO_TARGET] * (self.width - len(targets)), np.int64)
        if self.encodes:
            source = self._side([one.source for one in chosen], self.config.data.sequence_length)
            batch |= {f"source_{name}": array for name, array in source.items()}
        return batch

    def _side(self, texts: list[list[int]], width: int) -> Batch:
        tokens, positions = np.full(width, self.form.pad, np.int64), np.zeros(width, np.int64)
        segments = np.full(width, PADDING, np.int32)
        begin = 0
        for number, text in enumerate(texts):
            end = begin + len(text)
            tokens[begin:end], segments[begin:end], positions[begin:end] = text, number, np.arange(len(text))
            begin = end
        return {"tokens": tokens, "segments": segments, "positions": positions}
