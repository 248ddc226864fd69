"""Public tables of runs, in the folder that ISOFLOP_LAW_TABLES names (scripts/corpora/laws fetches them)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

LawTable = Callable[[str], Path]


@pytest.fixture(scope="session")
def law_table() -> LawTable:
    """Path of a table by its name; skips where it is not there, saying so."""

    def find(name: str) -> Path:
        folder = os.environ.get("ISOFLOP_LAW_TABLES", "")
        if not folder:
            pytest.skip("ISOFLOP_LAW_TABLES names no folder of tables")
        path = Path(folder) / f"{name}.csv"
        if not path.is_file():
            pytest.skip(f"{path} is not there")
        return path

    return find


def pytest_report_header() -> str:
    folder = os.environ.get("ISOFLOP_LAW_TABLES", "")
    found = len(list(Path(folder).glob("*.csv"))) if folder else 0
    return f"tables of laws: {found} in {folder}" if folder else "tables of laws: none (ISOFLOP_LAW_TABLES is not set)"
