"""What a run that begins from another one's weights says of the other one, whose price is no part of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.books.records import read_json
from trainer.config import Config

LINEAGE = ("run", "path", "step", "science_hash", "weights", "rows", "price", "lineage")  # keys of lineage.json
SHOWN = (("machine", "device_hours", "device-hours"), ("energy", "kwh", "kWh"), ("carbon", "kgco2e", "kg CO2e"))


def read_lineage(run: Path) -> dict[str, Any] | None:
    """Whose weights a run began from; null where these were drawn, and where the file is damaged."""
    lineage = read_json(run / "lineage.json")
    return lineage if isinstance(lineage, dict) and lineage.keys() >= set(LINEAGE) else None


def rows_text(rows: Mapping[str, int]) -> str:
    """What became of the rows of the embedding, by `all`, `by_piece` and `new`."""
    return f"{rows['by_piece']:,} of {rows['all']:,} rows by piece, {rows['new']:,} new rows from the mean"


def initial_line(lineage: Mapping[str, Any]) -> str:
    """Whose weights a run began from, and what became of their rows and feed-forwards."""
    rows = lineage["rows"]
    said = f"; {rows_text(rows)}" if rows else ""
    if experts := lineage.get("experts"):
        said += f"; {experts} experts a layer, each a copy of its feed-forward"
    which = f"average {average} of" if (average := lineage.get("average")) else "weights of"
    return f"{which} {lineage['run']} at step {lineage['step']}{said}"


def price_of(run: Path) -> dict[str, Any] | None:
    """The measured column of a run's price tag; null where none was made, as of an imported model."""
    tag = read_json(run / "pricetag.json")
    measured = tag.get("measured") if isinstance(tag, dict) else None
    return measured if isinstance(measured, dict) else None


def parents_price(config: Config) -> str | None:
    """A line for the price tag of a run that begins from another one's weights; null for all others."""
    if not config.init.given:
        return None
    parent, price = Path(str(config.init.run)), price_of(Path(str(config.init.run))) or {}
    known = [
        f"{value:.3g} {unit}"
        for group, name, unit in SHOWN
        if isinstance(value := (price.get(group) or {}).get(name), int | float)
    ]
    said = ", ".join(known) if known else "not known"
    return (
        f"this run alone: it begins from the weights of {parent.parent.name}/{parent.name}, whose own price is {said}"
    )
