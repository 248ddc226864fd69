"""The records of a grid's tasks: made once of the corpus and kept as files, so that every run reads the same ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trainer.compose import compose, in_quotes
from trainer.config import GridConfig
from trainer.tasks.shipped import make_records
from trainer.utils.files import write_atomic

SPLITS = ("train", "held_out")


def write_records(grid: GridConfig, words: Sequence[str], folder: Path) -> None:
    """`<folder>/<task>-<split>.jsonl` for every task that is made of the corpus, where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, task in grid.tasks.items():
        config = compose([*grid.base, *words, *task.words, *grid.tuning])
        paths = [_path(folder, name, split) for split in SPLITS]
        if config.task.source == "files" or all(path.is_file() for path in paths):
            continue
        for path, records in zip(paths, make_records(config, config.task.source), strict=True):
            lines = [json.dumps(record.fields, ensure_ascii=False) for record in records]
            write_atomic(path, "\n".join(lines) + "\n")


def files_of(folder: Path, task: str) -> list[str]:
    """Overrides that make a tuning run read the files of a task; none where the task brings files of its own."""
    paths = {split: _path(folder, task, split) for split in SPLITS}
    if not all(path.is_file() for path in paths.values()):
        return []
    return ["task.source=files", *(f"task.{split}={in_quotes(str(path))}" for split, path in paths.items())]


def _path(folder: Path, task: str, split: str) -> Path:
    return (folder / f"{task}-{split}.jsonl").absolute()
