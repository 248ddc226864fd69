"""Several price tags as one table: a row a run and their total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.books.branch import trunk_key
from trainer.books.formatting import format_amount, format_value, rounded_to
from trainer.books.plan import plan
from trainer.books.quantity import PriceTag, Quantity
from trainer.books.visible import Document
from trainer.config import Config
from trainer.config.numerics import known_before, tag

COLUMNS = {
    "parameters": "model.parameters",
    "tokens": "data.tokens",
    "FLOPs": "flop.total",
    "visible FLOPs": "flop.visible",
    "memory": "memory.rank",
    "time": "time.wall",
    "device-hours": "machine.device_hours",
    "energy": "energy.kwh",
    "carbon": "carbon.kgco2e",
    "money": "cost.amount",
}
SUMMED = ("FLOPs", "visible FLOPs", "time", "device-hours", "energy", "carbon", "money", "tokens")


@dataclass(frozen=True)
class PlanRow:
    """A run of the table: its name, the tag of its numerics as far as it is known before it starts, its price, and of a
    branch the name of its trunk's folder."""

    run: str
    numerics: str
    tag: PriceTag
    trunk: str | None = None


def plan_row(run: str, config: Config, documents: Sequence[Document] = ()) -> PlanRow:
    trunk = Path(config.branch.run).name if config.branch.run else None
    return PlanRow(run, tag(known_before(config)), plan(config, documents), trunk)


def format_plans(rows: Sequence[PlanRow]) -> str:
    """Planned columns of several runs, aligned, with a total of what adds up.

    A total over runs of which some state nothing says "at least"; columns that no run states are left out, and the
    numerics where all have the same. Runs that do not fit their machine follow by name.
    """
    stated = {
        title: key
        for title, key in COLUMNS.items()
        if any((quantity := _planned(row.tag, key)) is not None and quantity.value is not None for row in rows)
    }
    differ = len({row.numerics for row in rows}) > 1
    table = [["run", *(["numerics"] if differ else []), *stated]]
    for row in rows:
        cells = (_cell(_planned(row.tag, key), row.tag[key].unit) for key in stated.values())
        table.append([row.run, *([row.numerics] if differ else []), *cells])
    if len(rows) > 1:
        tags = [row.tag for row in rows]
        table.append(["total", *([""] if differ else []), *(_total(tags, title, key) for title, key in stated.items())])
        if apart := _apart(rows):
            cells = (_total(apart, title, key, own=False) for title, key in stated.items())
            table.append(["without branches", *([""] if differ else []), *cells])
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()
        for line in table
    ]
    if len(rows) > 1 and (line := _shared_line(rows)):
        lines.append(line)
    too_large = [row for row in rows if row.tag.fit and row.tag.fit["fits"] is False]
    lines += [f"  * {row.run}: {note}" for row in too_large for note in row.tag.notes]
    return "\n".join(lines)


def plans_json(rows: Sequence[PlanRow]) -> dict[str, Any]:
    """The same as plain data: every run's numerics and tag, and totals with how many runs had a value."""
    totals = {}
    for title in SUMMED:
        values = [value for row in rows if (value := _amount(row.tag, COLUMNS[title])) is not None]
        totals[COLUMNS[title]] = {"value": sum(values) if values else None, "known": len(values), "runs": len(rows)}
    runs = [{"run": row.run, "numerics": row.numerics, **row.tag.to_json()} for row in rows]
    return {"runs": runs, "total": totals}


def _planned(price: PriceTag, key: str) -> Quantity | None:
    try:
        return price[key].planned
    except KeyError:
        return None


def _cell(quantity: Quantity | None, unit: str) -> str:
    return "not stated" if quantity is None else format_value(quantity, unit)


def _total(tags: Sequence[PriceTag], title: str, key: str, *, own: bool = True) -> str:
    """own: of branches without what their trunks do, which counts with the trunks."""
    if title not in SUMMED:
        return ""
    known = [value for one in tags if (value := _amount(one, key, own=own)) is not None]
    units = {one[key].unit for one in tags}
    if len(units) > 1:  # two currencies do not add up
        return ""
    guessed = any((one := _planned(tag, key)) is not None and one.provenance == "estimated" for tag in tags)
    text = format_amount(rounded_to(sum(known), 3) if guessed else sum(known), units.pop())
    return text if len(known) == len(tags) else f"at least {text}"


def _amount(one: PriceTag, key: str, *, own: bool = True) -> float | None:
    """The planned amount; own: of a branch without its trunk's part."""
    quantity = _planned(one, key)
    if quantity is None or quantity.value is None:
        return None
    part = _planned(one, trunk_key(key)) if own else None
    return quantity.value - (part.value if part is not None and part.value is not None else 0.0)


def _apart(rows: Sequence[PlanRow]) -> list[PriceTag]:
    """The tags of what would be trained if nothing was shared: all but the trunks; none where these are not among
    the rows."""
    trunks = {row.trunk for row in rows if row.trunk is not None}
    there = bool(trunks) and trunks <= {row.run for row in rows}
    return [row.tag for row in rows if row.run not in trunks] if there else []


def _shared_line(rows: Sequence[PlanRow]) -> str | None:
    """How much of the work is left by branches, where there are any."""
    apart = _apart(rows)
    key = COLUMNS["FLOPs"]
    alone = sum(_amount(one, key, own=False) or 0.0 for one in apart)
    if not alone:
        return None
    shared = sum(_amount(row.tag, key) or 0.0 for row in rows)
    return (
        f"{len(apart)} runs by branches: {format_amount(shared, 'FLOP')} of {format_amount(alone, 'FLOP')}, "
        f"{shared / alone:.2f} of training each by itself"
    )
