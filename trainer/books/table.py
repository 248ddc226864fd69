"""Several price tags as one table: a row a run and their total."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.books.formatting import format_amount
from trainer.books.quantity import PriceTag, Quantity

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


def format_plans(plans: Sequence[tuple[str, PriceTag]]) -> str:
    """Planned columns of several runs, aligned, with a total of what adds up.

    A total over runs of which some state nothing says "at least"; columns that no run states are left out. Runs that do
    not fit their machine follow by name.
    """
    stated = {
        title: key
        for title, key in COLUMNS.items()
        if any((quantity := _planned(tag, key)) is not None and quantity.value is not None for _, tag in plans)
    }
    table = [["run", *stated]]
    for name, tag in plans:
        table.append([name, *(_cell(_planned(tag, key), tag[key].unit) for key in stated.values())])
    if len(plans) > 1:
        table.append(["total", *(_total(plans, title, key) for title, key in stated.items())])
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in table
    ]
    lines += [
        f"  * {name}: {note}" for name, tag in plans if tag.fit and tag.fit["fits"] is False for note in tag.notes
    ]
    return "\n".join(lines)


def plans_json(plans: Sequence[tuple[str, PriceTag]]) -> dict[str, Any]:
    """The same as plain data: every run's tag, and totals with how many runs had a value."""
    totals = {}
    for title in SUMMED:
        values = [
            quantity.value
            for _, tag in plans
            if (quantity := _planned(tag, COLUMNS[title])) and quantity.value is not None
        ]
        totals[COLUMNS[title]] = {"value": sum(values) if values else None, "known": len(values), "runs": len(plans)}
    return {"runs": [{"run": name, **tag.to_json()} for name, tag in plans], "total": totals}


def _planned(tag: PriceTag, key: str) -> Quantity | None:
    try:
        return tag[key].planned
    except KeyError:
        return None


def _cell(quantity: Quantity | None, unit: str) -> str:
    return "not stated" if quantity is None or quantity.value is None else format_amount(quantity.value, unit)


def _total(plans: Sequence[tuple[str, PriceTag]], title: str, key: str) -> str:
    if title not in SUMMED:
        return ""
    quantities = [_planned(tag, key) for _, tag in plans]
    known = [quantity.value for quantity in quantities if quantity is not None and quantity.value is not None]
    units = {tag[key].unit for _, tag in plans}
    if len(units) > 1:  # two currencies do not add up
        return ""
    text = format_amount(sum(known), units.pop())
    return text if len(known) == len(plans) else f"at least {text}"
