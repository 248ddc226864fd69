"""Rows of local data files: JSON Lines, or one JSON list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.utils.bounded import parse_json, read_text
from trainer.utils.errors import UserError, nearest


@dataclass(frozen=True)
class Row:
    """One row, which knows where it stands."""

    fields: dict[str, Any]
    where: str  # file and row, for a person

    def __post_init__(self) -> None:
        if not isinstance(self.fields, dict):
            raise UserError(f"{self.where}: no JSON object")

    def __getitem__(self, name: str) -> Any:
        """A field's value. Raises UserError naming file, row and field where it is missing."""
        if name not in self.fields:
            has = ", ".join(map(str, self.fields)) or "none"
            raise UserError(f"{self.where}: no field {name!r}{nearest(name, self.fields)}; it has {has}")
        return self.fields[name]


def read_rows(file: Path) -> list[Row]:
    """All rows of a file. Raises UserError where it cannot be read, naming the row."""
    text = read_text(file)
    try:
        if text.lstrip()[:1] == "[":
            found = [("row", number, row) for number, row in enumerate(parse_json(text), 1)]
        else:
            lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
            found = []
            for number, line in lines:
                found.append(("line", number, parse_json(line)))
    except ValueError as error:
        number = getattr(error, "lineno", 1) if text.lstrip()[:1] == "[" else lines[len(found)][0]
        raise UserError(f"{file}, line {number}: no JSON ({getattr(error, 'msg', error)})") from None
    return [Row(row, f"{file}, {kind} {number}") for kind, number, row in found]
