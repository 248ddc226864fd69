"""Loss on text that was never trained on, as a whole and by source and language."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from trainer.books.layout import micro_batch
from trainer.config import Config
from trainer.data import Examples, Samples
from trainer.models import NOT_A_TARGET
from trainer.trackers.records import EvaluationRecord
from trainer.training.completion import AsRead, Completer
from trainer.training.dataset import Source, examples, held_out_tasks, text_of
from trainer.training.distributed import World
from trainer.training.engine import Engine
from trainer.training.sequences import Sharing
from trainer.training.unigram import Unigram, unigram_of

Batch = Mapping[str, np.ndarray]
Of = TypeVar("Of")


class Sums(NamedTuple):
    """What was added up over held-out samples."""

    nats: float  # the model's loss
    targets: float
    unigram_nats: float | None = None  # the loss of `Unigram` over the same targets, where that is a yardstick


class Validation:
    """The held-out samples of a run, divided over its ranks."""

    def __init__(self, config: Config, source: Source, world: World, completer: Completer | None = None) -> None:
        self.config, self.source, self.world = config, source, world
        self.completer = completer or AsRead()
        self.sharing = Sharing(config, world)
        self.splits = validation_splits(source, config)

    @cached_property
    def unigram(self) -> Unigram | None:
        return unigram_of(self.source, self.config, of_whole(self.config, self.splits).values())

    def measure(self, engine: Engine, step: int, attempt: int, tokens: int | None = None) -> EvaluationRecord:
        """The loss over `evaluation.samples` of them after `step` updates, split by split, and that of each average.
        Collective.

        tokens: that were trained on; None: those of the first `step` batches."""
        began = time.monotonic()
        sums = self._sums(engine)
        averages = {name: self._loss(engine, name) for name in engine.averages.names}
        return EvaluationRecord(
            step=step,
            tokens=self.config.curriculum.tokens(step) if tokens is None else tokens,
            seconds=time.monotonic() - began,
            attempt=attempt,
            averages=averages,
            **validation_metrics(self.source, self.config, sums),
        )

    def _sums(self, engine: Engine, average: str | None = None) -> dict[str, Sums]:
        """Of the weights that are used, or of an average, over all ranks."""
        total = sum(map(len, self.splits.values()))
        most = self.config.evaluation.samples or total
        shares = {
            name: self._batches(samples, min(len(samples), -(-most * len(samples) // total)))
            for name, samples in self.splits.items()
        }
        with engine.evaluation(average) as forward:
            own = sums_by_split(shares, forward, self.unigram if average is None else None)
        return {name: self._over_ranks(one) for name, one in own.items()}

    def _loss(self, engine: Engine, average: str) -> float:
        """Of an average, what `loss` is of the weights that are used."""
        return float(validation_metrics(self.source, self.config, self._sums(engine, average))["loss"])

    def _over_ranks(self, sums: Sums) -> Sums:
        nats, targets, unigram_nats = self.world.sum(sums.nats, sums.targets, sums.unigram_nats or 0.0)
        return Sums(nats, targets, None if sums.unigram_nats is None else unigram_nats)

    def _batches(self, samples: Examples, count: int) -> Iterator[dict[str, np.ndarray]]:
        """This rank's micro-batches: equally many and equally large on every rank; past the end, without targets."""
        return self.sharing.batches(self._read(samples, count))

    def _read(self, samples: Examples, count: int) -> Iterator[dict[str, np.ndarray]]:
        size, rank, ranks = micro_batch(self.config), self.sharing.data_rank, self.sharing.data_ranks
        for start in range(0, count, size * ranks):
            first = start + rank * size
            batch = samples.batch(first, first + size)
            batch["targets"][max(0, count - first) :] = NOT_A_TARGET
            yield self.completer.complete(batch)


def sums_by_split(
    batches: Mapping[str, Iterable[Batch]],
    forward: Callable[[Batch], tuple[Tensor, Tensor]],
    unigram: Unigram | None,
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[str, Sums]:
    """What the held-out batches of each split add up to.

    forward: the loss sum and the target count of a batch. progress: told the rows of each batch that is done.
    """
    sums = {}
    for name, of_split in batches.items():
        nats, targets, unigram_nats = 0.0, 0.0, 0.0
        for batch in of_split:
            loss, count = forward(batch)
            nats, targets = nats + float(loss), targets + float(count)
            unigram_nats += unigram.nats(batch["targets"]) if unigram else 0.0
            progress(len(batch["targets"]))
        sums[name] = Sums(nats, targets, unigram_nats if unigram else None)
    return sums


def validation_splits(source: Source, config: Config) -> dict[str, Examples]:
    """The held-out samples, those of each source of a mixture, of each pair of languages and of each labelled task for
    themselves."""
    text = text_of(source)
    if text is None or not config.data.mixes:
        found: dict[str, Examples] = {config.data.name: examples(source, config, "held_out")}
    else:
        origins = text.manifest["splits"]["held_out"]["origins"]
        found = {name: Samples(text, config, "held_out", name) for name, sizes in origins.items() if sizes["documents"]}
    return found | held_out_tasks(source, config)


def of_whole(config: Config, by_split: Mapping[str, Of]) -> dict[str, Of]:
    """Those of the splits that the loss as a whole is of: of the text, beside which labelled tasks stand for
    themselves; of the tasks where no text is trained on."""
    tasks_alone = config.data.mixing.text_share == 0
    return {name: one for name, one in by_split.items() if (name in config.data.tasks) == tasks_alone}


def validation_metrics(source: Source, config: Config, sums: Mapping[str, Sums]) -> dict[str, Any]:
    """loss (nats per target), targets and bits_per_byte; the same of a model without context over the same targets,
    unigram_loss and unigram_bits_per_byte; for a mixture the first three by `sources` and, where they state theirs,
    by `languages`.

    Where there are labelled tasks, each is one of the sources, and what is said of all is the text's alone, so that it
    can be compared with that of runs without tasks; where no text is trained on it is the tasks'.

    Bits per byte are comparable over tokenizers, and null where the loss is no likelihood of the text: only a causal
    model predicts every token of a document but its first. Both are converted at the tokens per byte of all held-out
    text, also where only a part of its samples was read.
    """
    whole = of_whole(config, sums).values()
    prepared = text_of(source)
    text = prepared.held_out if prepared and config.objective.description.likelihood else None
    if config.data.mixing.text_share == 0:
        text = None
    sizes = prepared.manifest["splits"]["held_out"]["origins"] if prepared else {}
    sizes_of_all = [vars(text)] if text else []
    found = _account(whole, sizes_of_all)
    yardstick: dict[str, Any] = {"loss": None, "bits_per_byte": None}
    if all(one.unigram_nats is not None for one in whole):
        yardstick = _account([Sums(one.unigram_nats or 0.0, one.targets) for one in whole], sizes_of_all)
    found |= {f"unigram_{name}": yardstick[name] for name in ("loss", "bits_per_byte")}

    def sizes_of(names: list[str]) -> list[Mapping[str, float]]:
        known = [sizes[name] for name in names if name in sizes]
        return known if text and len(known) == len(names) else []

    def by(groups: Mapping[str, list[str]]) -> dict[str, Any]:
        return {group: _account([sums[name] for name in names], sizes_of(names)) for group, names in groups.items()}

    return found | {part: by(groups) for part, groups in group_by_source(config, sums).items()}


def group_by_source(config: Config, names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """The sources of a mixture, the pairs of languages, or the text and its labelled tasks, among these names, by
    `sources` and, where they state theirs, by `languages`."""
    data = config.data
    mixed = [name for name in names if data.tasks or name in data.sources or name in data.pairs]
    languages: dict[str, list[str]] = {}
    for name in mixed:
        source = data.sources.get(name)
        if source is not None and (stated := source.language) is not None:
            languages.setdefault(stated, []).append(name)
    return {"sources": {name: [name] for name in mixed}, "languages": languages}


def _account(sums: Iterable[Sums], sizes: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """sizes: documents, tokens and bytes of the text that the sums were measured on, or on a part of which."""
    sums = list(sums)
    targets = sum(one.targets for one in sums)
    loss, bits_per_byte = sum(one.nats for one in sums) / max(targets, 1), None
    if sizes:
        total = Counter[str]()
        for one in sizes:
            total.update({name: int(one[name]) for name in ("documents", "tokens", "bytes")})
        bits_per_byte = loss / math.log(2) * (total["tokens"] - total["documents"]) / max(1, total["bytes"])
    return {"loss": loss, "targets": int(targets), "bits_per_byte": bits_per_byte}
