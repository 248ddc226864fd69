"""Loss on text that was never trained on, as a whole and by source and language."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from trainer.books.layout import micro_batch
from trainer.config import Config
from trainer.data import Examples, Prepared, Samples
from trainer.models import NOT_A_TARGET
from trainer.trackers.records import EvaluationRecord
from trainer.training.dataset import Source, examples
from trainer.training.distributed import World
from trainer.training.engine import Engine

Batch = Mapping[str, np.ndarray]
Sums = tuple[float, float]  # nats, targets


class Validation:
    """The held-out samples of a run, divided over its ranks."""

    def __init__(self, config: Config, source: Source, world: World) -> None:
        self.config, self.source, self.world = config, source, world
        self.splits = validation_splits(source, config)

    def measure(self, engine: Engine, step: int, attempt: int) -> EvaluationRecord:
        """The loss over `evaluation.samples` of them after `step` updates, split by split. Collective."""
        began = time.monotonic()
        total = sum(map(len, self.splits.values()))
        most = self.config.evaluation.samples or total
        shares = {
            name: self._batches(samples, min(len(samples), -(-most * len(samples) // total)))
            for name, samples in self.splits.items()
        }
        with engine.evaluation() as forward:
            own = sums_by_split(shares, forward)
        sums = {name: self._over_ranks(one) for name, one in own.items()}
        return EvaluationRecord(
            step=step,
            tokens=self.config.curriculum.tokens(step),
            seconds=time.monotonic() - began,
            attempt=attempt,
            **validation_metrics(self.source, self.config, sums),
        )

    def _over_ranks(self, sums: Sums) -> Sums:
        nats, targets = self.world.sum(*sums)
        return nats, targets

    def _batches(self, samples: Examples, count: int) -> Iterator[dict[str, np.ndarray]]:
        """This rank's micro-batches: equally many and equally large on every rank; past the end, without targets."""
        size = micro_batch(self.config)
        for start in range(0, count, size * self.world.size):
            first = start + self.world.rank * size
            batch = samples.batch(first, first + size)
            batch["targets"][max(0, count - first) :] = NOT_A_TARGET
            yield batch


def sums_by_split(
    batches: Mapping[str, Iterable[Batch]],
    forward: Callable[[Batch], tuple[Tensor, Tensor]],
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[str, Sums]:
    """nats and targets over the held-out batches of each split.

    forward: the loss sum and the target count of a batch. progress: told the rows of each batch that is done.
    """
    sums = {}
    for name, of_split in batches.items():
        nats, targets = 0.0, 0.0
        for batch in of_split:
            loss, count = forward(batch)
            nats, targets = nats + float(loss), targets + float(count)
            progress(len(batch["targets"]))
        sums[name] = nats, targets
    return sums


def validation_splits(source: Source, config: Config) -> dict[str, Examples]:
    """The held-out samples, those of each source of a mixture for themselves."""
    if not isinstance(source, Prepared) or config.data.name != "mixture":
        return {config.data.name: examples(source, config, "held_out")}
    origins = source.manifest["splits"]["held_out"]["origins"]
    return {name: Samples(source, config, "held_out", name) for name, sizes in origins.items() if sizes["documents"]}


def validation_metrics(source: Source, config: Config, sums: Mapping[str, Sums]) -> dict[str, Any]:
    """loss (nats per target), targets, bits_per_byte and the unigram baseline; for a mixture the same by `sources`
    and, where they state theirs, by `languages`.

    Bits per byte are comparable over tokenizers, and null where the loss is no likelihood of the text: only a causal
    model predicts every token of a document but its first.
    """
    text = source.held_out if isinstance(source, Prepared) and config.objective.description.likelihood else None
    sizes = source.manifest["splits"]["held_out"]["origins"] if isinstance(source, Prepared) else {}
    whole = _account(sums.values(), [vars(text)] if text else [])
    found = {**whole, "unigram_bits_per_byte": text.unigram_bits_per_byte if text else None}

    def by(groups: Mapping[str, list[str]]) -> dict[str, Any]:
        return {
            group: _account([sums[name] for name in names], [sizes[name] for name in names] if text else [])
            for group, names in groups.items()
        }

    return found | {part: by(groups) for part, groups in group_by_source(config, sums).items()}


def group_by_source(config: Config, names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """The sources of a mixture among these names, by `sources` and, where they state theirs, by `languages`."""
    mixed = [name for name in names if name in config.data.sources]
    languages: dict[str, list[str]] = {}
    for name in mixed:
        if (stated := config.data.sources[name].language) is not None:
            languages.setdefault(stated, []).append(name)
    return {"sources": {name: [name] for name in mixed}, "languages": languages}


def _account(sums: Any, sizes: list[Mapping[str, float]]) -> dict[str, Any]:
    """sizes: documents, tokens and bytes of the text that the sums were measured on, or on a part of which."""
    nats, targets = (sum(column) for column in zip(*sums, strict=True))
    loss, bits_per_byte = nats / max(targets, 1), None
    if sizes:
        total = Counter[str]()
        for one in sizes:
            total.update({name: int(one[name]) for name in ("documents", "tokens", "bytes")})
        bits_per_byte = loss / math.log(2) * (total["tokens"] - total["documents"]) / max(1, total["bytes"])
    return {"loss": loss, "targets": int(targets), "bits_per_byte": bits_per_byte}
