"""What pages show of plans and prices is what the commands print, to the digit."""

from __future__ import annotations

import pytest

from tests.docs.commands import ROOT
from tests.docs.outputs import Shown, paired, plain, printed, shown, without_numbers

PURE = [one for page in sorted((ROOT / "docs").rglob("*.md")) for one in shown(page) if one.is_pure and one.lines]


@pytest.mark.parametrize("one", PURE, ids=lambda one: f"{one.page.stem}:{one.line}")
def test_what_is_shown_is_what_is_printed(one: Shown) -> None:
    """Where a change of the books moves it: python -m tests.docs.outputs."""
    found = paired(one.lines, printed(one.words))
    assert not isinstance(found, str), found


def test_there_are_such_outputs() -> None:
    assert len({one.page for one in PURE}) >= 4


@pytest.mark.parametrize(
    ("lines", "fits"),
    [
        (("a 1", "b 2", "c 3"), True),
        (("a 1", "...", "c 3"), True),
        (("...", "b ...", "..."), True),
        (("a 1", "c 3"), False),  # a line is missing, and nothing says so
        (("a 1", "b 2"), False),  # it goes on
        (("a 1", "...", "c 4"), False),
        (("b 2", "...", "a 1"), False),
    ],
)
def test_a_difference_is_found(lines: tuple[str, ...], fits: bool) -> None:
    assert isinstance(paired(lines, ["a 1", "b  2", "c 3"]), list) == fits


def test_numbers_of_a_training_are_no_difference() -> None:
    one = "step 400/400  loss 3.5084  lr 4.00e-04  13.4k tokens/s  0.000281 kWh"
    other = "step 12/12  loss 6.1  lr 3.99e-03  960 tokens/s  2.5e-06 kWh"
    assert without_numbers(one) == without_numbers(other) != plain(other)
    assert without_numbers(one) != without_numbers(one.replace("loss", "lost"))
    assert without_numbers("depth2-seed0-bdee0b  5.5") == without_numbers("depth6-seed1-566131  6.25")
    assert without_numbers("14.45 MFLOP") == without_numbers("1.2 GFLOP") != without_numbers("1.2 Wh")
    assert without_numbers("3 min 51 s (2 min 00 s to 1 d 3 h)") == without_numbers("374 ms (19 ms to 7.3 s)")
