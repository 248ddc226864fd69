"""Two laws beside each other: how many times the compute of one the other needs for the same loss."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from trainer.report.html_template import html_document, html_table, in_words
from trainer.report.live_plots import live, pictures
from trainer.report.plots import Plot
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
    from trainer.scaling.efficiency.picture import factor_picture, factor_plots

    folder.mkdir(parents=True, exist_ok=True)
    facts = {"laws": [efficiency_json(one) for one in found]}
    sections, drawn = {"": _table(found)}, list[Plot]()
    for number, one in enumerate(found, 1):
        plots = factor_plots(one)
        svg, png = factor_picture(plots)
        name = "factor" if len(found) == 1 else f"factor-{number}"
        write_atomic(folder / f"{name}.svg", svg)
        write_atomic(folder / f"{name}.png", png)
        first, second = _labels(one)
        charts = pictures(plots, first=len(drawn))
        sections[f"{second} against {first}"] = charts + in_words(format_efficiency(one))
        drawn += plots
    text = json.dumps(facts, indent=1)
    write_atomic(folder / "compare.json", text + "\n")
    title = "Efficiency of " + " and ".join(_labels(one)[1] for one in found) + " against " + _labels(found[0])[0]
    on_page, under = live(drawn), "the compute that the same loss takes"
    page = html_document(title, under, sections, on_page.html, on_page.hashes)
    write_atomic(folder / "compare.html", page)
    return facts


def _labels(found: Efficiency | StoredFactor) -> tuple[str, str]:
    return found.labels if isinstance(found, StoredFactor) else found.sides.labels


def _table(found: Sequence[Efficiency | StoredFactor]) -> str:
    first, *rest = table_rows(found)
    words = "".join(f"<p>{escape(sentence_of(one))}.</p>" for one in found if isinstance(one, Efficiency))
    return html_table(first, rest) + words
