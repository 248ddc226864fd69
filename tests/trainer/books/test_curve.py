"""Intensity by time: what a file may say, and grams as the sum over the hours in which energy was used."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from trainer.books.curve import BUCKET, curve_of, read_curve
from trainer.books.energy import fold
from trainer.books.window import Window, require_opening, window_misfits
from trainer.cli.main import main
from trainer.compose import compose
from trainer.config.window import read_window
from trainer.utils.errors import UserError

EXAMPLE = Path(__file__).parents[3] / "examples" / "curves" / "typical-day.csv"
HEAD = "# source: a test\ntime,average_gco2e_per_kwh\n"


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def written(folder: Path, rows: str, head: str = HEAD) -> Path:
    file = folder / "curve.csv"
    file.write_text(head + rows)
    return file


def test_the_example_says_that_it_is_made_up():
    curve = read_curve(EXAMPLE, repeats=True)
    assert "made up" in curve.source
    assert (curve.step, len(curve.grams), curve.kind) == (3600, 24, "average")
    assert read_curve(EXAMPLE, kind="marginal").at(at("2026-01-01T19:59")) == 650
    assert curve.at(at("2031-07-09T19:30")) == 410  # the same on every day
    assert read_curve(EXAMPLE).at(at("2026-01-02T00:00")) is None


def test_offsets_of_utc_may_be_written_either_way(tmp_path):
    rows = "2026-03-01T00:00Z,100\n2026-03-01T00:30+00:00,200\n2026-03-01 01:00:00Z,0\n"
    curve = read_curve(written(tmp_path, rows))
    assert (curve.step, curve.grams) == (1800, (100.0, 200.0, 0.0))


@pytest.mark.parametrize(
    ("rows", "said"),
    {
        "a hole": ("2026-01-01T00:00Z,1\n2026-01-01T01:00Z,3\n2026-01-01T03:00Z,3\n", "2026-01-01T02:00Z is missing"),
        "an empty cell": ("2026-01-01T00:00Z,100\n2026-01-01T01:00Z,\n", ":4: a hole"),
        "no time zone": ("2026-01-01T00:00,100\n2026-01-01T01:00,100\n", ":3: 2026-01-01T00:00 has no time zone"),
        "another time zone": ("2026-01-01T00:00+01:00,9\n2026-01-01T01:00+01:00,9\n", "write 2025-12-31T23:00Z"),
        "it goes back": ("2026-01-01T00:00Z,9\n2026-01-01T01:00Z,9\n2026-01-01T00:00Z,9\n", ":5: 2026-01-01T00:00Z"),
        "twice": ("2026-01-01T00:00Z,100\n2026-01-01T00:00Z,100\n", "0 minutes found"),
        "a day a row": ("2026-01-01T00:00Z,100\n2026-01-02T00:00Z,100\n", "1440 minutes found"),
        "one row": ("2026-01-01T00:00Z,100\n", "a single row"),
        "kilograms": ("2026-01-01T00:00Z,0.3\n2026-01-01T01:00Z,0.45\n", "0.45 kg would be 450"),
        "no number": ("2026-01-01T00:00Z,100\n2026-01-01T01:00Z,lots\n", ":4: 'lots' is no number"),
        "below nothing": ("2026-01-01T00:00Z,100\n2026-01-01T01:00Z,-3\n", "-3 g/kWh is no grid's intensity"),
        "not a number": ("2026-01-01T00:00Z,100\n2026-01-01T01:00Z,nan\n", "nan g/kWh is no grid's intensity"),
        "a cell too many": ("2026-01-01T00:00Z,100,1\n", ":3: 3 cells, 2 wanted"),
        "no time": ("noon,100\n", ":3: 'noon' is no time"),
        "nothing": ("", "no rows"),
    }.values(),
)  # fmt: skip
def test_curves_that_cannot_be(tmp_path, rows, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        read_curve(written(tmp_path, rows))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("time,average_gco2e_per_kwh\n", "# source:"),
        ("# source: a test\ntime,avg_gco2e_per_kwh\n", "did you mean 'average_gco2e_per_kwh'"),
        ("# source: a test\naverage_gco2e_per_kwh\n", "the columns are time and"),
    ],
)
def test_heads_that_cannot_be(tmp_path, head, said):
    with pytest.raises(UserError, match=re.escape(said)):
        read_curve(written(tmp_path, "2026-01-01T00:00Z,100\n2026-01-01T01:00Z,100\n", head))


def test_part_of_a_day_does_not_repeat(tmp_path):
    file = written(tmp_path, "2026-01-01T00:00Z,100\n2026-01-01T01:00Z,100\n")
    with pytest.raises(UserError, match="whole days"):
        read_curve(file, repeats=True)
    with pytest.raises(UserError, match="marginal given"):
        read_curve(file, kind="marginal")


# --- grams of a run ---


def readings(points: list[tuple[float, float]]) -> list[dict]:
    """A device's counter at these UTC times, the first of which opens the file."""
    device = {"key": "g", "component": "gpu", "method": "counter", "provenance": "measured"}
    begin = points[0][0]
    lines = []
    for number, (time, joules) in enumerate(points):
        common = {"segment": "s", "time": time, "monotonic": time - begin + 7, "values": [joules], "step": number}
        head = {"kind": "open", "boot": "b", "rank": 0, "world_size": 1, "attempt": 0, "devices": [device]}
        lines.append(common | (head if not number else {"kind": "reading", "n": number, "phase": "train"}))
    return lines


def test_grams_are_the_integral_over_the_hours_of_use():
    """Against a sum second by second, of readings at uneven times over two days."""
    chance, curve = random.Random(1), read_curve(EXAMPLE, repeats=True)
    time, joules, points = int(at("2026-05-01T21:13")), 0, []
    while time < at("2026-05-03T04:00"):
        points.append((float(time), float(joules)))
        seconds, watts = chance.choice([5, 60, 777]), chance.randint(0, 500)
        time, joules = time + seconds, joules + seconds * watts
    by_second = 0.0
    for (begin, low), (end, high) in pairwise(points):
        watts = (high - low) / (end - begin)
        by_second += sum(watts * (curve.at(second) or 0) for second in range(int(begin), int(end)))
    account = fold(readings(points)).account()
    total = account.total().value
    assert sum(account.timeline.values()) == pytest.approx(total)
    assert curve.weighted(account.timeline) * total == pytest.approx(by_second, rel=1e-9)


def test_energy_outside_of_the_curve_has_no_grams():
    begin = at("2026-01-01T23:30")
    account = fold(readings([(begin, 0.0), (begin + 1200, 100.0)])).account()
    assert read_curve(EXAMPLE).weighted(account.timeline) == pytest.approx(250)
    later = fold(readings([(begin, 0.0), (begin + 3600, 100.0)])).account()
    assert read_curve(EXAMPLE).weighted(later.timeline) is None
    assert read_curve(EXAMPLE).weighted({}) is None
    assert read_curve(EXAMPLE, repeats=True).weighted({int(begin // BUCKET): 5.0}) == 250


# --- windows ---


def test_hours_of_a_window():
    night = Window("22-06", None)
    opened = [hour for hour in range(24) if night.open(at(f"2026-02-03T{hour:02}:59"))]
    assert opened == [0, 1, 2, 3, 4, 5, 22, 23]
    assert night.opens(at("2026-02-03T06:00")) == at("2026-02-03T22:00")
    assert night.share == pytest.approx(8 / 24)
    half = Window("06:30-22", None)
    assert (half.open(at("2026-02-03T06:29")), half.open(at("2026-02-03T06:30"))) == (False, True)
    assert Window("00-24", None).share == 1.0
    berlin = Window("22-06@Europe/Berlin", None)  # in summer two hours before UTC
    assert berlin.opens(at("2026-07-01T12:00")) == at("2026-07-01T20:00")


def test_clean_hours_of_a_window():
    window = Window("clean:210", read_curve(EXAMPLE, repeats=True))
    opened = [hour for hour in range(24) if window.open(at(f"2026-02-03T{hour:02}:59"))]
    assert opened == [2, 3, 4, 10, 11, 12, 13, 14, 15]
    assert window.opens(at("2026-02-03T16:05")) == at("2026-02-04T02:00")
    assert window.share == pytest.approx(9 / 24)
    dated = Window("clean:210", read_curve(EXAMPLE))
    assert (dated.opens(at("2026-01-01T16:05")), dated.open(at("2026-01-02T03:00"))) == (None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("22-22", "never opens"),
        ("clean", "no window"),
        ("clean:", "no number"),
        ("cleen:200", "did you mean 'clean'"),
        ("22", "no window"),
        ("25-26", "from 0 to 24"),
        ("22-06@Mars/Base", "no time zone"),
        ("clean:-5", "0 to 3000"),
    ],
)
def test_windows_that_cannot_be(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        read_window(text)


CURVE = [f"site.curve={EXAMPLE}", "site.curve_repeats=true"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launch.window=clean:100", *CURVE], "never opens: the cleanest hour of site.curve has 160 g/kWh"),
        (["launch.window=clean:100"], "needs the grid's intensity by time"),
        (["launch.window=22-22"], "never opens"),
        (["site.curve=nowhere.csv"], "nowhere.csv: no such file"),
        (["site.curve_repeats=true"], "there is no curve"),
        ([*CURVE, "site.curve_kind=averaged"], "curve_kind"),
    ],
)
def test_the_command_refuses_before_any_work(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and said in error
    assert not [*tmp_path.iterdir()]


def test_a_curve_that_is_over_opens_no_more():
    config = compose(["launch.window=clean:210", f"site.curve={EXAMPLE}"])
    assert window_misfits(config) == []
    require_opening(config, at("2026-01-01T14:00"))
    with pytest.raises(UserError, match=r"never opens from now on until the curve ends at 2026-01-02T00:00Z"):
        require_opening(config, at("2026-01-01T16:00"))
    with pytest.raises(UserError, match=r"it is 2027-01-01T16:00Z, and site.curve reaches from"):
        require_opening(config, at("2027-01-01T16:00"))


def test_plan_of_a_window_takes_its_clean_hours():
    from trainer.books import plan

    config = compose(["machine=h100-sxm", "site.pue=1", "launch.window=clean:210", *CURVE])
    curve, tag = curve_of(config.site), plan(config)
    clean = [grams for grams in curve.grams if grams <= 210]
    kwh, carbon = tag["energy.kwh"].planned.value, tag["carbon.kgco2e"].planned
    assert carbon.value == pytest.approx(kwh * sum(clean) / len(clean) / 1000)
    assert tag["time.paused"].planned.value == pytest.approx(tag["time.wall"].planned.value * 15 / 9)
