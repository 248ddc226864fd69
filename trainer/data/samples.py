"""Sample number i of a run: a pure function of (prepared corpus, science config, i)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainer.config import Config
from trainer.config.parallel import key_of
from trainer.data.chunker import Chunker
from trainer.data.languages import languages_for
from trainer.data.mixture import Mixture
from trainer.data.shards import Prepared, TokenStream
from trainer.data.tokenizer import Tokenizer
from trainer.data.usage import DataUsage
from trainer.objectives import NO_TARGET, PADDING, Batch, Packed, Texts, Window, objective

NO_SAMPLE = -1  # the number of a row that is blank


@dataclass(frozen=True)
class SampleRange:
    """Samples first..last-1 of the run. read: samples of the same chunker before."""

    first: int
    last: float
    chunker: Chunker
    read: int


class Samples:
    """Chunks of a split's text, as training examples.

    The training split is read in a new order every epoch; what is left behind its last whole sample is not read. A
    stage of another sequence length cuts the text anew and begins a pass of its own; one of the same length goes on
    where the last such stage stopped. The held-out split is read in order at data.sequence_length, its last sample
    padded, and every sample past its end is all padding.
    """

    def __init__(
        self, prepared: Prepared, config: Config, split: Literal["train", "held_out"], origin: str | None = None
    ) -> None:
        """origin: the one source of a mixture whose held-out text is wanted; None: all."""
        self.pad, self.corpus = prepared.pad, config.data.name
        training = split == "train"
        if not training:
            config = config.at_length(config.data.sequence_length)
        mixed = training and config.data.mixes
        if mixed:
            origins = list(prepared.manifest["splits"][split]["origins"])
            streams = {key_of(config.data, origin): TokenStream(prepared, split, origin) for origin in origins}
        else:
            streams = {"data": TokenStream(prepared, split, origin)}
        table = Tokenizer(prepared.tokenizer_file, config.tokenizer.special_ids).table()
        chunkers: dict[int, Chunker] = {}
        for number, length in enumerate(config.curriculum.sequence_lengths):
            one = config.at_length(length)
            how = objective(one, table)
            languages = languages_for(prepared, one, split)
            chunkers[length] = Chunker(one, how, streams, self.pad, languages, number if training else None)
        self.mixture: Mixture | None = None
        if mixed:
            tokens = {origin: len(stream) for origin, stream in zip(origins, streams.values(), strict=True)}
            epochs = {length: np.array([part.n for part in cut.parts]) for length, cut in chunkers.items()}
            self.mixture = Mixture(config, tokens, epochs)
        self.sample_ranges = list(_sample_ranges(config, chunkers))

    def __len__(self) -> int:
        """Samples of one epoch, at the first sequence length."""
        return self.sample_ranges[0].chunker.n

    def sample_range(self, sample: int) -> SampleRange:
        """The range (of one stage) that holds this sample."""
        return next(sample_range for sample_range in self.sample_ranges if sample < sample_range.last)

    def batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1 of the endless run, of one stage; the first axis of every array is stop - start."""
        objective, read = self.sample_range(start).chunker.objective, self._read(start, stop)
        if isinstance(read, Window):
            return objective.apply(read)
        assert isinstance(objective, Packed)
        return objective.pack(read)

    def window(self, start: int, stop: int) -> Window:
        """The text of these samples, before the objective."""
        read = self._read(start, stop)
        length = self.sample_range(start).chunker.objective.length
        return read if isinstance(read, Window) else read.window(length, self.pad)

    def _read(self, start: int, stop: int) -> Window | Texts:
        these = self.sample_range(start)
        if stop > these.last:
            raise ValueError(f"samples {start} to {stop - 1} are of several stages")
        index = np.arange(start, stop)
        if self.mixture is None:
            return these.chunker.read(these.chunker.parts[0], index, start - these.first + these.read)
        return these.chunker.mixed(index, *self.mixture(start, stop))

    def where(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Where each of these samples begins: document of the split, and tokens into it."""
        window = self.window(start, stop)
        first = slice(None) if window.owner is None else np.searchsorted(window.owner, np.arange(stop - start))
        return self.sample_range(start).chunker.where(window.place[first])

    def usage(self, stop: int) -> list[DataUsage]:
        """Where samples 0..stop-1 came from, by stage and source: what a run has read is a function of its step."""
        reached = [sample_range for sample_range in self.sample_ranges if sample_range.first < stop]
        names = [self.corpus] if self.mixture is None else self.mixture.names
        counts = (
            [np.array([int(min(stop, sample_range.last)) - sample_range.first]) for sample_range in reached]
            if self.mixture is None
            else self.mixture.counts(stop)
        )
        return [
            DataUsage(number, name, samples, samples * sample_range.chunker.sequence_length, samples / part.n)
            for number, (sample_range, given) in enumerate(zip(reached, counts, strict=True))
            for name, samples, part in zip(names, given.tolist(), sample_range.chunker.parts, strict=True)
        ]


def _sample_ranges(config: Config, chunkers: dict[int, Chunker]) -> Iterator[SampleRange]:
    read = Counter[int]()
    for stage in config.curriculum.stages:
        length = stage.sequence_length
        sample_range = SampleRange(stage.first_sample, stage.last_sample, chunkers[length], read[length])
        yield sample_range
        if not math.isinf(sample_range.last):
            read[length] += int(sample_range.last) - sample_range.first


def check(prepared: Prepared, config: Config) -> None:
    """Raise UserError where this text cannot serve this run, before any worker starts.

    Too few tokens for one sample, too few sentinels, epoch caps that starve a stage, a language that is not stated.
    """
    Samples(prepared, config, "train")
    Samples(prepared, config, "held_out")


def blank(batch: Batch, pad: int) -> Batch:
    """A batch of the same shapes with nothing to learn: padding and no targets."""
    fill = {"tokens": pad, "source_tokens": pad, "segments": PADDING, "source_segments": PADDING}
    fill |= {"targets": NO_TARGET, "sentence_label": NO_TARGET, "samples": NO_SAMPLE}
    return {name: np.full_like(array, fill.get(name, 0)) for name, array in batch.items()}
