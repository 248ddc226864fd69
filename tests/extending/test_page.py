"""docs/extending.md shows what stands in the files that these tests use."""

from __future__ import annotations

import re
from pathlib import Path

from tests.extending.conftest import ADDED, PLUGIN, ROOT
from trainer.plugins.kinds import KINDS

PAGE = (ROOT / "docs" / "extending.md").read_text()


def test_every_line_of_code_stands_in_an_example() -> None:
    files = [file for folder in (ADDED, PLUGIN) for file in folder.rglob("*.py")]
    there = {line.strip() for file in files for line in file.read_text().splitlines()}
    shown = [
        line.strip() for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
    ]
    assert len(shown) > 80
    assert [line for line in shown if line and line != "..." and line not in there] == []


def test_every_kind_is_on_the_page_with_an_example() -> None:
    folders = {Path(*kind.package.split(".")) for kind in KINDS.values()}
    there = {folder.relative_to(ROOT) for folder in (ROOT / "trainer/descriptions").iterdir() if folder.is_dir()}
    # Families of published models are lines of a table, which nothing loads from outside.
    assert folders == there - {Path("trainer/descriptions/__pycache__"), Path("trainer/descriptions/models")}
    for folder in folders:
        (example,) = (ADDED / folder).glob("*.py")
        assert str(folder) in PAGE and example.stem in PAGE
