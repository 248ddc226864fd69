"""`where=<column>=<value>,...`: which rows of a table, or runs of a root, are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from trainer.utils.errors import UserError, nearest

Row = TypeVar("Row")


class Condition(NamedTuple):
    """A column holds one of these values."""

    column: str
    values: tuple[str, ...]

    def holds(self, cell: str) -> bool:
        return any(_same(cell, value) for value in self.values)


def read_conditions(text: str) -> list[Condition]:
    """`source=llama_3,outlier=True|False`. Raises UserError where a condition is no column and value."""
    found = []
    for one in filter(None, text.split(",")):
        column, _, values = one.partition("=")
        if not column.strip() or not values.strip():
            raise UserError(f"where: {one!r} given, <column>=<value> wanted, or <column>=<value>|<value>")
        found.append(Condition(column.strip(), tuple(value.strip() for value in values.split("|"))))
    return found


def keep(
    rows: Sequence[Row], conditions: Iterable[Condition], cell: Callable[[Row, str], str], columns: Sequence[str]
) -> list[Row]:
    """The rows for which all conditions hold. cell: what a row holds in a column.

    Raises UserError for a column that is not there and for values that no row has.
    """
    kept = list(rows)
    for condition in conditions:
        if condition.column not in columns:
            there = ", ".join(columns)
            raise UserError(
                f"where: no column {condition.column!r}{nearest(condition.column, columns)}; there is {there}"
            )
        held = list(dict.fromkeys(cell(row, condition.column) for row in kept))
        left = [row for row in kept if condition.holds(cell(row, condition.column))]
        if not left:
            some = ", ".join(map(repr, held[:6])) + (f" and {len(held) - 6} more" if len(held) > 6 else "")
            given = "|".join(condition.values)
            raise UserError(f"where: no row has {condition.column}={given}{nearest(given, held)}; there is {some}")
        kept = left
    return kept


def _same(cell: str, value: str) -> bool:
    """As text, whatever its case, or as a number."""
    if cell.strip().lower() == value.lower():
        return True
    try:
        return float(cell) == float(value)
    except ValueError:
        return False
