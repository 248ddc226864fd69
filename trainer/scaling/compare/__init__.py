"""Runs beside each other: settings, curves, and whether a difference is more than seed noise."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from trainer.report.html_template import html_document, html_table
from trainer.report.live_plots import live, pictures
from trainer.scaling.compare.comparison import AXES, Comparison, compare, comparison_json
from trainer.scaling.compare.groups import read_groups
from trainer.scaling.compare.next_seeds import format_seeds, next_seeds, seeds_json
from trainer.scaling.compare.text import format_comparison, table_of, verdict_lines
from trainer.utils.files import write_atomic

__all__ = [
    "AXES",
    "compare",
    "comparison_json",
    "format_comparison",
    "format_seeds",
    "next_seeds",
    "read_groups",
    "seeds_json",
    "write_comparison",
]


def write_comparison(found: Comparison, axis: str, folder: Path) -> dict[str, Any]:
    """compare.json, compare.html and curves.png, curves.svg; returns what compare.json holds."""
    from trainer.scaling.compare.picture import curves, loss_plots

    folder.mkdir(parents=True, exist_ok=True)
    plots = loss_plots(found, axis)
    svg, png = curves(plots)
    facts = comparison_json(found)
    verdicts = "".join(f"<p>{escape(line)}</p>" for line in [*verdict_lines(found), *found.notes])
    on_page = live(plots)
    head, *rows = table_of(found)
    table = html_table(head, rows)
    sections = {"": table + verdicts, "Curves": pictures(plots)}
    title = " against ".join(group.label for group in found.groups)
    runs = sum(len(group.runs) for group in found.groups)
    write_atomic(folder / "curves.svg", svg)
    write_atomic(folder / "curves.png", png)
    write_atomic(folder / "compare.json", json.dumps(facts, indent=1) + "\n")
    write_atomic(folder / "compare.html", html_document(title, f"{runs} runs", sections, on_page.html, on_page.hashes))
    return facts
