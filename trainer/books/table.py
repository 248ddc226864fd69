"""Several price tags as one table: a row a run and their total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.books.formatting import format_amount
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
    """A run of the table: its name, the tag of its numerics as far as it is known before it starts, and its price."""

    run: str
    numerics: str
    tag: PriceTag


def plan_row(run: str, config: Config, documents: Sequence[Document] = ()) -> PlanRow:
    return PlanRow(run, tag(known_before(config)), plan(config, documents))


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
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()
        for line in table
    ]
    too_large = [row for row in rows if row.tag.fit and row.tag.fit["fits"] is False]
    lines += [f"  * {row.run}: {note}" for row in too_large for note in row.tag.notes]
    return "\n".join(lines)


def plans_json(rows: Sequence[PlanRow]) -> dict[str, Any]:
    """The same as plain data: every run's numerics and tag, and totals with how many runs had a value."""
    totals = {}
    for title in SUMMED:
        values = [
            quantity.value
            for row in rows
            if (quantity := _planned(row.tag, COLUMNS[title])) and quantity.value is not None
        ]
        totals[COLUMNS[title]] = {"value": sum(values) if values else None, "known": len(values), "runs": len(rows)}
    runs = [{"run": row.run, "numerics": row.numerics, **row.tag.to_json()} for row in rows]
    return {"runs": runs, "total": totals}


def _planned(price: PriceTag, key: str) -> Quantity | None:
    try:
        return price[key].planned
    except KeyError:
        return None


def _cell(quantity: Quantity | None, unit: str) -> str:
    return "not stated" if quantity is None or quantity.value is None else format_amount(quantity.value, unit)


def _total(tags: Sequence[PriceTag], title: str, key: str) -> str:
    if title not in SUMMED:
        return ""
    quantities = [_planned(one, key) for one in tags]
    known = [quantity.value for quantity in quantities if quantity is not None and quantity.value is not None]
    units = {one[key].unit for one in tags}
    if len(units) > 1:  # two currencies do not add up
        return ""
    text = format_amount(sum(known), units.pop())
    return text if len(known) == len(tags) else f"at least {text}"
