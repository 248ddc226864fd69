"""Titles and cells of a CSV file, as text."""

from __future__ import annotations

import csv
from pathlib import Path

from trainer.utils.bounded import read_text
from trainer.utils.errors import UserError

TABLE_BYTES = 1 << 26


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
        raise UserError(f"{path}: no runs under the line of titles")
    return titles, rows


def check_once(path: Path, title: str, titles: list[str]) -> None:
    """Raise UserError where several columns have this title."""
    if titles.count(title) > 1:
        raise UserError(f"{path}: {titles.count(title)} columns are called {title!r}; give each a name of its own")
