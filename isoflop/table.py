"""Records as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any


class Table(Mapping[str, list[Any]]):
    """Columns by name, all of one length; None where a row says nothing. `pandas.DataFrame(table)` takes it."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        names = dict.fromkeys(name for row in rows for name in row)
        self._columns = {name: [row.get(name) for row in rows] for name in names}
        self._length = len(rows)

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """Of columns, as of every mapping; `rows()` has the rows."""
        return len(self._columns)

    def rows(self) -> list[dict[str, Any]]:
        """The same as one mapping a row."""
        return [{name: column[row] for name, column in self._columns.items()} for row in range(self._length)]

    def __repr__(self) -> str:
        return f"Table of {self._length} rows: {', '.join(self)}"

    def _repr_html_(self) -> str:
        """What a notebook shows: the first and the last rows."""
        rows = self.rows()
        left_out = len(rows) > 12
        shown = [*rows[:6], dict.fromkeys(self, "..."), *rows[-6:]] if left_out else rows
        head = "".join(f"<th>{escape(name)}</th>" for name in self)
        body = "".join(f"<tr>{''.join(f'<td>{_cell(row[name])}</td>' for name in self)}</tr>" for row in shown)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else escape(str(value))
