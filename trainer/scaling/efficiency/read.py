"""From the names of `isoflop compare` to laws: tables, roots of runs, or stored laws."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trainer.scaling.efficiency.stored import StoredLaw
from trainer.scaling.fit import read_table
from trainer.scaling.fit.table import Run, Table, named
from trainer.scaling.origin import FIRST_WEIGHTS, TASKS
from trainer.utils.errors import UserError

TABLES, STORED = (".csv", ".tsv"), ".json"


def is_law(name: str) -> bool:
    """Whether a name is taken as a law without saying so: a table or a stored law, no run."""
    return Path(name).suffix.lower() in (*TABLES, STORED)


def read_laws(
    names: Sequence[str],
    root: str = "runs",
    *,
    count: str = "total",
    columns: dict[str, str] | None = None,
    mixed: bool = False,
) -> dict[str, Table | StoredLaw]:
    """Label -> runs, or a stored law. Raises UserError where a name stands for nothing or losses are not one scale."""
    if len(names) < 2:
        raise UserError(f"compare: name at least two laws, e.g. a.csv b.csv; got {' '.join(names) or 'none'}")
    paths = [_place(name, root) for name in names]
    labels = [_label(path) for path in paths]
    if len(set(labels)) < len(labels):
        labels = [str(path) for path in paths]
    if len(set(labels)) < len(labels):
        raise UserError(f"compare: {next(one for one in labels if labels.count(one) > 1)} is named twice")
    stored = {label: path for label, path in zip(labels, paths, strict=True) if path.suffix.lower() == STORED}
    if stored:
        if len(stored) < len(paths):
            tables = [label for label in labels if label not in stored]
            raise UserError(
                f"compare: {named(stored)} is a stored law and {named(tables)} has runs: give the runs of all, or "
                "stored laws of all"
            )
        from trainer.scaling.efficiency.law_file import read_stored

        return {label: read_stored(path, label) for label, path in stored.items()}
    laws = {
        label: read_table(path, count=count, columns=None if path.is_dir() else columns, mixed=mixed)
        for label, path in zip(labels, paths, strict=True)
    }
    if not mixed:
        _check_scale(laws)
    return dict(laws)


def _label(path: Path) -> str:
    """What a law is called: a table or a root by its name, a stored law by its folder's."""
    if path.suffix.lower() == STORED:
        return path.resolve().parent.name.removesuffix("-fit")
    return path.stem if path.is_file() else path.name


def default_folder(names: Sequence[str], root: str = "runs") -> Path:
    """Where the comparison goes unless it is said: beside what is compared."""
    parents = [str(_place(name, root).resolve().parent) for name in names]
    return Path(os.path.commonpath(parents)) / "comparison"


def _place(name: str, root: str) -> Path:
    place = next((path for path in (Path(name), Path(root) / name) if path.exists()), None)
    if place is None:
        raise UserError(f"compare: {name}: no such folder of runs, table or law")
    return place


def _check_scale(tables: dict[str, Table]) -> None:
    """Raise UserError where the sides' losses are not one scale: other data, tokenizer or objective."""
    wrong = []
    scales = {label: _scale(table.runs) for label, table in tables.items()}
    for what in dict.fromkeys(what for scale in scales.values() for what in scale):
        values = {label: scale[what] for label, scale in scales.items() if what in scale}
        if len(set(values.values())) > 1:
            each = " against ".join(f"{_short(value)} ({label})" for label, value in values.items())
            wrong.append(f"compare: losses of different {what} are not one scale: {each}")
    if wrong:
        wrong.append(
            "compare a score that all of them have: a table's column of it (column.loss=<title>), or isoflop grid with "
            "grid.sizes; mixed=true compares the losses all the same"
        )
        raise UserError("; ".join(wrong))


def _scale(runs: Sequence[Run]) -> dict[str, str]:
    return {
        what: value for run in runs[:1] for what, value in run.origin if what not in ("numerics", FIRST_WEIGHTS, TASKS)
    }


def _short(text: str, most: int = 48) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
