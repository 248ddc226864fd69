"""What the tests of this folder share: one server of commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.golden.process import Commands


@pytest.fixture(scope="session")
def golden_commands() -> Iterator[Commands]:
    """`isoflop` commands that share one start-up."""
    with Commands() as commands:
        yield commands
