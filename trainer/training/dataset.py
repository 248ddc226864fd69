"""What a run learns from: the prepared corpus of pre-training, or the records of a task. The loop reads both alike."""

from __future__ import annotations

from collections.abc import Callable

from trainer.config import Config
from trainer.data import Prepared, Samples
from trainer.data import check as check_samples
from trainer.data import prepare as prepare_corpus
from trainer.tasks import Examples, Split, Task, open_task

Source = Prepared | Task


def prepare(config: Config, progress: Callable[[str, int, int], None] | None = None) -> Source:
    """Make ready what the run learns from. progress(what, done, total) is called during long work."""
    return prepare_corpus(config, progress) if config.task.kind is None else open_task(config)


def examples(source: Source, config: Config, split: Split) -> Samples | Examples:
    """The samples of a split, by their numbers."""
    return Samples(source, config, split) if isinstance(source, Prepared) else Examples(source, config, split)


def check(source: Source, config: Config) -> list[str]:
    """Raise UserError where this source cannot serve this run, before any worker starts; returns lines to show."""
    if isinstance(source, Prepared):
        check_samples(source, config)
        return []
    lines = []
    for split in ("train", "held_out"):
        found = Examples(source, config, split)
        lines.append(f"{split:<9} {found.records:,} records in {len(found):,} rows, {found.cut:,} cut to fit")
    return lines
