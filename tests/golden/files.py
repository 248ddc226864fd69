"""Where the fixtures are, and how they are read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def renewal(kind: str) -> str:
    """The command that makes a fixture anew."""
    return f"python -m tests.golden.make {kind}"


def read_text(file: Path, kind: str) -> str:
    """The text of a fixture. The test fails in one line where it is missing."""
    if not file.is_file():
        pytest.fail(f"{file.relative_to(HERE.parents[1])} is missing; make it: {renewal(kind)}", pytrace=False)
    return file.read_text()


def read_json(file: Path, kind: str) -> dict[str, Any]:
    return dict(json.loads(read_text(file, kind)))


def write_json(file: Path, facts: dict[str, Any]) -> None:
    """A fact a line, so that a change is seen as one; floats as the shortest text that reads back to the same bits."""
    file.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file, without a last line that a kill has torn."""
    records = []
    for line in file.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def same(found: list[str], wanted: list[str], kind: str, file: Path) -> None:
    """Fail the test where facts differ, telling which are gone (-) and which are new (+), and what to do about it."""
    if found == wanted:
        return
    gone, new = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    lines = [*(f"- {line}" for line in gone), *(f"+ {line}" for line in new)]
    shown = [*lines[:60], *([f"... and {len(lines) - 60} more"] if len(lines) > 60 else [])]
    head = f"{file.relative_to(HERE.parents[1])} (-) and the code (+) differ in {len(lines)} lines"
    way = f"where this is meant: {renewal(kind)}, in a commit of its own that says why"
    pytest.fail("\n".join([head, *(shown or ["the same lines, in another order or number"]), way]), pytrace=False)
