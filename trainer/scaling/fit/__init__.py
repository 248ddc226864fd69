"""Laws through the losses of many runs, and what they say about the next size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.report.html_template import html_document, images, preformatted
from trainer.report.plots import address
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
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

__all__ = [
    "COUNTS",
    "Findings",
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


def write_fit(found: Findings, folder: Path, title: str) -> dict[str, Any]:
    """fit.json, law.json, fit.html and the pictures as PNG and SVG; returns what fit.json holds."""
    from trainer.scaling.fit.pictures import pictures

    folder.mkdir(parents=True, exist_ok=True)
    made, facts = pictures(found), findings_json(found)
    for name, (_, svg, png) in made.items():
        write_atomic(folder / f"{name}.svg", svg)
        write_atomic(folder / f"{name}.png", png)
    sections = {
        "": images({caption: address(svg) for caption, svg, _ in made.values()}),
        "In words": preformatted(format_findings(found)),
        "In numbers": preformatted(json.dumps(facts, indent=1)),
    }
    write_law(found.ensemble, found.table, folder / "law.json")
    write_atomic(folder / "fit.json", json.dumps(facts, indent=1) + "\n")
    write_atomic(
        folder / "fit.html", html_document(f"Scaling law of {title}", f"{len(found.table.runs)} runs", sections)
    )
    return facts
