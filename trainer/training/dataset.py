"""What a run learns from: the prepared corpus of pre-training, alone or with labelled tasks beside it, or the records
of a task. The loop reads all of them alike."""

from __future__ import annotations

from collections.abc import Callable

from trainer.config import Config
from trainer.data import Prepared, Samples
from trainer.data import check as check_samples
from trainer.data import prepare as prepare_corpus
from trainer.tasks import Examples, Split, Task, open_task
from trainer.tasks.labelled import MixedData, MixedSamples, TaskSamples, check_mixed, open_mixed

Source = Prepared | Task | MixedData


def prepare(config: Config, progress: Callable[[str, int, int], None] | None = None) -> Source:
    """Make ready what the run learns from. progress(what, done, total) is called during long work."""
    if config.task.kind is not None:
        return open_task(config)
    prepared = prepare_corpus(config, progress)
    return open_mixed(config, prepared) if config.data.tasks else prepared


def text_of(source: Source) -> Prepared | None:
    """The prepared corpus among what a run learns from; null where it learns from records alone."""
    return source.text if isinstance(source, MixedData) else source if isinstance(source, Prepared) else None


def fingerprints(source: Source) -> dict[str, str]:
    """Of all that there is to read, `data`; where tasks stand beside a text, of the `text` alone too."""
    text = {"text": source.text.fingerprint} if isinstance(source, MixedData) else {}
    return {"data": source.fingerprint, **text}


def held_out_tasks(source: Source, config: Config) -> dict[str, TaskSamples]:
    """The held-out samples of each labelled task beside a text."""
    tasks = source.tasks if isinstance(source, MixedData) else {}
    return {name: TaskSamples(task, config, name, "held_out") for name, task in tasks.items()}


def examples(source: Source, config: Config, split: Split) -> Samples | Examples | MixedSamples:
    """The samples of a split, by their numbers. The held-out split of a mixture is its text's."""
    if isinstance(source, MixedData) and split == "train":
        return MixedSamples(source, config)
    text = text_of(source)
    if text is not None:
        return Samples(text, config, split)
    assert isinstance(source, Task)
    return Examples(source, config, split)


def check(source: Source, config: Config) -> list[str]:
    """Raise UserError where this source cannot serve this run, before any worker starts; returns lines to show."""
    if isinstance(source, MixedData):
        return check_mixed(source, config)
    if isinstance(source, Prepared):
        check_samples(source, config)
        return []
    lines = list(source.notes)
    for split in ("train", "held_out"):
        found = Examples(source, config, split)
        lines.append(f"{split:<9} {found.records:,} records in {len(found):,} rows, {found.cut:,} cut to fit")
    return lines
