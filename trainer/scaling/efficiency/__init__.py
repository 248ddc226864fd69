"""Two laws beside each other: how many times the compute of one the other needs for the same loss."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from trainer.report.html_template import html_document, images, in_words
from trainer.report.plots import address
from trainer.scaling.efficiency.factor import Efficiency, efficiency
from trainer.scaling.efficiency.read import default_folder, is_law, read_laws
from trainer.scaling.efficiency.sides import sides
from trainer.scaling.efficiency.stored import StoredFactor, StoredLaw, stored_factor
from trainer.scaling.efficiency.text import efficiency_json, format_efficiency, format_factor, sentence_of, table_rows
from trainer.scaling.fit.table import Table
from trainer.utils.files import write_atomic

__all__ = [
    "Efficiency",
    "compare_laws",
    "default_folder",
    "efficiency",
    "efficiency_json",
    "format_efficiency",
    "format_factor",
    "is_law",
    "read_laws",
    "sides",
    "write_factors",
]


def compare_laws(
    laws: Mapping[str, Table | StoredLaw], *, replicates: int = 400, seed: int = 0
) -> list[Efficiency | StoredFactor]:
    """Each law against the first of them."""
    (first, base), *rest = laws.items()
    found: list[Efficiency | StoredFactor] = []
    for label, other in rest:
        if isinstance(base, Table) and isinstance(other, Table):
            found.append(efficiency(sides((first, label), base, other), replicates=replicates, seed=seed))
        elif isinstance(base, StoredLaw) and isinstance(other, StoredLaw):
            found.append(stored_factor(base, other))
    return found


def write_factors(found: Sequence[Efficiency | StoredFactor], folder: Path) -> dict[str, Any]:
    """compare.json, compare.html and a picture of each pair; returns what compare.json holds."""
    from trainer.scaling.efficiency.picture import factor_picture

    folder.mkdir(parents=True, exist_ok=True)
    facts = {"laws": [efficiency_json(one) for one in found]}
    sections = {"": _table(found)}
    for number, one in enumerate(found, 1):
        svg, png = factor_picture(one)
        name = "factor" if len(found) == 1 else f"factor-{number}"
        write_atomic(folder / f"{name}.svg", svg)
        write_atomic(folder / f"{name}.png", png)
        first, second = _labels(one)
        body = images({"Loss along compute, and the factor": address(svg)}) + in_words(format_efficiency(one))
        sections[f"{second} against {first}"] = body
    text = json.dumps(facts, indent=1)
    write_atomic(folder / "compare.json", text + "\n")
    title = "Efficiency of " + " and ".join(_labels(one)[1] for one in found) + " against " + _labels(found[0])[0]
    write_atomic(folder / "compare.html", html_document(title, "the compute that the same loss takes", sections))
    return facts


def _labels(found: Efficiency | StoredFactor) -> tuple[str, str]:
    return found.labels if isinstance(found, StoredFactor) else found.sides.labels


def _table(found: Sequence[Efficiency | StoredFactor]) -> str:
    first, *rest = table_rows(found)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in first)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rest)
    words = "".join(f"<p>{escape(sentence_of(one))}.</p>" for one in found if isinstance(one, Efficiency))
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>{words}"
