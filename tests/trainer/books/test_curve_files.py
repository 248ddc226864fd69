"""Curves as spreadsheets write them."""

from __future__ import annotations

import pytest

from trainer.books.curve import read_curve
from trainer.books.price_inputs import read_inputs
from trainer.utils.errors import UserError

HEAD = "# source: me\ntime,average_gco2e_per_kwh\n"
ROWS = "".join(f"2026-01-01T{hour:02d}:00Z,{100 + hour}\n" for hour in range(24))


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_mark_of_utf_8_and_line_ends_change_nothing(tmp_path, ends):
    (tmp_path / "a.csv").write_bytes(("\ufeff" + (HEAD + ROWS).replace("\n", ends)).encode())
    assert read_curve(tmp_path / "a.csv").grams == tuple(range(100, 124))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + '"2026-01-01T00:00Z,100\n' + ROWS * 400, "no CSV"),
        (HEAD + ROWS.replace("Z,100", "Z,100,5"), "decimals are written with a point"),
    ],
)
def test_what_is_no_curve(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        read_curve(tmp_path / "a.csv")
    assert len(str(caught.value).splitlines()) == 1


def test_a_decimal_comma_in_a_price_is_no_thousand():
    with pytest.raises(UserError, match=r"with a point: 23\.5"):
        read_inputs({"gco2e_per_kwh": "23,5"})
    with pytest.raises(UserError, match="without commas"):
        read_inputs({"watts": "1,400"})
