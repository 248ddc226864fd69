"""What a user writes and reads stays: commands, keys, files and JSON keys are those of the fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.golden import interface, outputs
from tests.golden.files import same
from tests.golden.folders import place
from tests.golden.process import Commands

PARTS = [*outputs.QUICK, *(pytest.param(part, marks=pytest.mark.slow) for part in outputs.SLOW)]


def test_what_a_user_can_write() -> None:
    same(interface.build(), interface.golden(), "interface", interface.FILE)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_what_the_program_writes(
    part: Callable[[outputs.Place], Iterator[str]], tmp_path: Path, golden_commands: Commands
) -> None:
    wanted = outputs.golden(part.__name__)
    place(tmp_path)
    found = sorted(set(part(outputs.Place(tmp_path, golden_commands))))
    same(found, wanted, "outputs", outputs.FILE)
