"""Laws through the losses of many runs, and what they say about the next size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from trainer.report.plots import Picture
from trainer.scaling.fit.choice import read_forms
from trainer.scaling.fit.choice_text import format_against, format_predictions
from trainer.scaling.fit.csv_table import read_csv
from trainer.scaling.fit.findings import Findings, Progress, findings_json, fit, fit_optima
from trainer.scaling.fit.law_file import StoredLaw, against, read_law, write_law
from trainer.scaling.fit.predict import predict, read_points
from trainer.scaling.fit.run_table import COUNTS, read_runs
from trainer.scaling.fit.table import Table, check_origin
from trainer.scaling.fit.text import format_findings, format_optima
from trainer.scaling.fit.where import read_conditions
from trainer.scaling.settings import law_file as settings_file
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

__all__ = [
    "COUNTS",
    "Findings",
    "Part",
    "Progress",
    "StoredLaw",
    "against",
    "findings_json",
    "fit",
    "fit_optima",
    "format_against",
    "format_findings",
    "format_optima",
    "format_predictions",
    "predict",
    "read_conditions",
    "read_csv",
    "read_forms",
    "read_law",
    "read_points",
    "read_table",
    "write_fit",
]


def read_table(
    source: Path,
    *,
    count: str = "total",
    columns: dict[str, str] | None = None,
    mixed: bool = False,
    where: str = "",
) -> Table:
    """Runs from a CSV file or from the run folders below a root. where: `source=llama_3,outlier=True|False`.

    Raises UserError where nothing can be read, or where the runs are of different data, tokenizers, objectives or
    numerics and `mixed` is not asked for.
    """
    if not source.exists():
        raise UserError(f"{source}: no such folder or table")
    conditions = read_conditions(where)
    table = read_runs(source, count, conditions) if source.is_dir() else read_csv(source, columns, where=conditions)
    if not mixed:
        check_origin(table)
    return table


class Part(Protocol):
    """What else a table says, beside the laws of its loss."""

    def format(self) -> str: ...

    def to_json(self) -> dict[str, Any]: ...

    def pictures(self) -> dict[str, Picture]: ...


def write_fit(found: Findings, folder: Path, title: str, parts: Sequence[Part] = ()) -> dict[str, Any]:
    """fit.json, law.json, settings.json, fit.html and the pictures as PNG and SVG; returns what fit.json holds."""
    from trainer.scaling.fit.page import fit_page
    from trainer.scaling.fit.pictures import pictures

    folder.mkdir(parents=True, exist_ok=True)
    made, facts = pictures(found), findings_json(found)
    for part in parts:
        made |= part.pictures()
        facts |= part.to_json()
    for name, one in made.items():
        write_atomic(folder / f"{name}.svg", one.svg)
        write_atomic(folder / f"{name}.png", one.png)
    write_law(found.ensemble, found.table, folder / "law.json")
    if found.settings is not None:
        settings_file.write_law(found.settings, folder / settings_file.FILE, title)
    write_atomic(folder / "fit.json", json.dumps(facts, indent=1) + "\n")
    write_atomic(folder / "fit.html", fit_page(found, made, title, [part.format() for part in parts]))
    return facts
