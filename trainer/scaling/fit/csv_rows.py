"""Titles and cells of a CSV file, as text."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from trainer.utils.bounded import read_text
from trainer.utils.errors import UserError

TABLE_BYTES = 1 << 26
SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_NUMBER = re.compile(r"([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:e[+-]?\d+)?)\s*([kmbt]?)", re.IGNORECASE)


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The titles, and (line of the file, cells by title) of each row that is not empty."""
    text = read_text(path, TABLE_BYTES).removeprefix("\ufeff")
    first = text.partition("\n")[0]
    divider = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=divider)
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: no table ({error})") from None
    titles = [title.strip() for title in (lines[0][1] if lines else [])]
    if not any(titles):
        raise UserError(f"{path}: an empty table; its first line must name the columns parameters, tokens, loss")
    rows = []
    for number, cells in lines[1:]:
        if any(cell.strip() for cell in cells):
            if any(cell.strip() for cell in cells[len(titles) :]):
                raise UserError(
                    f"{path}: row {number} has {len(cells)} cells under {len(titles)} titles; a number with a comma "
                    "stands in quotes"
                )
            cells += [""] * (len(titles) - len(cells))
            rows.append((number, dict(zip(titles, cells, strict=False))))
    if not rows:
        raise UserError(f"{path}: no table of runs: no runs under the line of titles")
    return titles, rows


def check_once(path: Path, title: str, titles: list[str]) -> None:
    """Raise UserError where several columns have this title."""
    if titles.count(title) > 1:
        raise UserError(f"{path}: {titles.count(title)} columns are called {title!r}; give each a name of its own")


def number_of(cell: str) -> float | None:
    """`1.2e9`, `70M`, `1,000,000`; None where it is no number."""
    match = _NUMBER.fullmatch(cell)
    if not match or not any(character.isdigit() for character in match[1]):
        return None
    return float(match[1].replace(",", "")) * SUFFIXES[match[2].lower()]
