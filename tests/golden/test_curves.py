"""Training computes what 0.1.0 computed: to the bit on the fixture's processor, to 1e-6 elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import text
from tests.golden.curves import FAMILIES, LAYOUTS, OF_FOLDERS, curve, difference, golden, tolerance, train
from tests.golden.files import renewal
from tests.golden.process import Commands

QUICK = [*((family, "zero0") for family in FAMILIES), ("decoder", "zero3")]
CASES = [
    pytest.param(family, layout, marks=[] if (family, layout) in QUICK else pytest.mark.slow)
    for family in FAMILIES
    for layout in dict.fromkeys((*LAYOUTS, OF_FOLDERS[family]))
]


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves")
    text.place(folder)
    return folder


@pytest.mark.parametrize(("family", "layout"), CASES)
def test_a_run_repeats_its_golden_curve(
    family: str, layout: str, working_folder: Path, golden_commands: Commands
) -> None:
    wanted = golden()[f"{family} {layout}"]
    found = curve(train(golden_commands, working_folder, family, layout))
    assert found.keys() == wanted.keys()
    for name in wanted:
        told = difference(found[name], wanted[name], tolerance(1e-6))
        assert told is None, f"{family} {layout}, {name}: {told}\nwhere this is meant: {renewal('curves')}"


def test_the_layouts_agree_with_each_other() -> None:
    """A fixture that was made of a broken engine would hold it forever: ZeRO stages and ranks change rounding alone."""
    curves = golden()
    for family in FAMILIES:
        for layout in LAYOUTS:
            alone, divided = curves[f"{family} zero0"], curves[f"{family} {layout}"]
            for name in alone:
                assert difference(divided[name], alone[name], 1e-5) is None, (family, layout, name)
