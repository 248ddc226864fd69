"""The suite's tasks, as tasks to be scored."""

from __future__ import annotations

from trainer.config import DataConfig
from trainer.evaluate.suite import CORPUS, IN_CONTEXT, SUITE, examples
from trainer.evaluate.tasks.task import Item, Metric, Task

SHOWN = 400  # training examples that those in the context are drawn from
IN_CONTEXT_SHOTS = (0, 1, 4, 16)


def shipped_task(name: str, count: int, seed: int, data: DataConfig) -> Task:
    """`count` test items of one task of the suite, with its training examples to be shown."""
    made = {split: examples(name, split, n, seed, data) for split, n in (("test", count), ("train", SHOWN))}  # type: ignore[arg-type]
    items, shown = (
        tuple(Item(one.text, (one.answer,), one.choices, one.label, kind=one.kind) for one in made[split])
        for split in ("test", "train")
    )
    judged = {"acceptability": "{}\nThis is", **dict.fromkeys(CORPUS, "{}\n# " + name + ":")}.get(name, "{}")
    if judged != "{}":
        items, shown = (tuple(Item(judged.format(one.text), *_rest(one)) for one in many) for many in (items, shown))
    return Task(
        name,
        "multiple_choice",
        items,
        shown,
        (Metric("acc"),),
        delimiter="\n",
        target_delimiter=" " if items[0].text else "",
    )


def _rest(item: Item) -> tuple[tuple[str, ...], tuple[str, ...], int, str, str]:
    return item.answers, item.choices, item.label, item.after, item.kind


def shipped_names(data: DataConfig) -> list[str]:
    """The tasks that this corpus has labels for."""
    languages = {source.language for source in data.sources.values() if source.language}
    return [name for name in SUITE if name != "language" or len(languages) > 1]


def own_shots(name: str) -> tuple[int, ...] | None:
    """How many examples a task of the suite is shown one after the other by default; None: as its task says."""
    return IN_CONTEXT_SHOTS if name in IN_CONTEXT else None
