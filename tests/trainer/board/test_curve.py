"""What is read of a growing metrics.jsonl: as `trainer.books.records` reads the whole file."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.board.conftest import append_steps, step_record
from trainer.board.curve import Curve, newest, sketch
from trainer.board.lines import GrowingFile
from trainer.books.records import read_steps
from trainer.trackers.records import EvaluationRecord


def line(record: object) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def history() -> list[dict[str, object]]:
    """A run that was stopped at step 60, went on from 40, rolled back from 80 to 70 and ended at 90."""
    chance = random.Random(0)
    first = [step_record(step, 5 - step / 50 + chance.random(), 0) for step in range(1, 61)]
    second = [step_record(step, 4 + chance.random(), 1, wall_seconds=0.5 * (step - 40)) for step in range(41, 81)]
    third = [step_record(step, 3 + chance.random(), 1, wall_seconds=20 + 0.5 * (step - 70)) for step in range(71, 91)]
    records: list[dict[str, object]] = [one.to_json() for one in (*first, *second, *third)]
    for step in (20, 50, 60, 80):
        place = max(number for number, one in enumerate(records) if one["step"] == step and number < 105)
        records.insert(place + 1, EvaluationRecord(step, 1000 * step, 4.5, None, None, 1, 0.1).to_json())
    return records


def whole(path: Path) -> Curve:
    curve = Curve(path)
    assert curve.read(math.inf)
    return curve


def same_as_the_report(curve: Curve, run: Path) -> None:
    steps = read_steps(run)
    for name in ("step", "tokens", "flop", "loss", "grad_norm", "lr"):
        expected = [one[name] if one[name] is not None else math.nan for one in steps.kept]
        np.testing.assert_allclose(curve.step(name), expected, rtol=1e-6)
    assert [one["step"] for one in curve.evaluations] == [one["step"] for one in steps.evaluations]


def test_steps_that_were_trained_again_count_once_as_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(map(line, history())))
    curve = whole(tmp_path / "metrics.jsonl")
    same_as_the_report(curve, tmp_path)
    assert len(curve) == 90
    # What was paid: 30 s of the first attempt, and all of the second.
    assert curve.step("seconds")[-1] == pytest.approx(30 + 20 + 10)


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, 200_000), max_size=12), torn=st.lists(st.integers(0, 150), max_size=5))
def test_reading_as_it_grows_gives_what_reading_at_once_gives(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], torn: list[int]
) -> None:
    """Whatever the places at which reading stopped, and with lines that a kill tore."""
    run = tmp_path_factory.mktemp("run")
    lines = [line(record) for record in history()]
    for place in torn:
        lines.insert(place % len(lines), lines[place % len(lines)][: 20 + place] + b"\n")
    content, path = b"".join(lines), run / "metrics.jsonl"
    curve = Curve(path)
    for end in [*sorted(cut % len(content) for cut in cuts), len(content)]:
        path.write_bytes(content[:end]) if not path.exists() else path.open("ab").write(
            content[path.stat().st_size : end]
        )
        curve.read(math.inf)
    same_as_the_report(curve, run)


@pytest.mark.parametrize("form", [{"separators": (", ", ": ")}, {"sort_keys": True}, {"separators": (",", ":")}])
def test_a_line_in_any_form_of_json_says_the_same(form: dict[str, object], tmp_path: Path) -> None:
    record = step_record(7, 3.25, 2).to_json() | {"sources": {'a "kwh":9, {odd} name': 7000}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record, **form) + "\n")  # type: ignore[arg-type]
    curve = whole(tmp_path / "metrics.jsonl")
    found = [float(curve.step(name)[0]) for name in ("step", "tokens", "flop", "kwh", "loss", "lr")]
    assert found == pytest.approx([7, 7000, 1.05e13, 0.014, 3.25, 0.003], rel=1e-6)


def test_what_a_record_does_not_state_is_not_zero(tmp_path: Path) -> None:
    record = step_record(1, math.nan, price={"kwh": None}).to_json() | {"loss": None}
    (tmp_path / "metrics.jsonl").write_bytes(line(record))
    curve = whole(tmp_path / "metrics.jsonl")
    assert math.isnan(curve.step("loss")[0]) and math.isnan(curve.step("kwh")[0])


@pytest.mark.parametrize(
    "strange",
    [
        *(b"[1, 2]", b'{"kind":"step"}', b'{"kind":"step","step":"9"}', b'{"kind":"step","step":1e400}', b"\x00\xff"),
        b"[" * 9999,
        b'{"kind":"step","step":%d,"loss":1}' % (10**40),
        b'{"kind":"evaluation","step":true}',
        b"x" * 3_000_000,
    ],
)
def test_what_no_run_writes_is_left_out(strange: bytes, tmp_path: Path) -> None:
    good = line(step_record(1, 3.0).to_json())
    (tmp_path / "metrics.jsonl").write_bytes(good + strange + b"\n" + line(step_record(2, 2.5).to_json()))
    assert whole(tmp_path / "metrics.jsonl").step("loss").tolist() == [3.0, 2.5]


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    append_steps(tmp_path, [3.0, 2.0, 1.0])
    curve = whole(tmp_path / "metrics.jsonl")
    (tmp_path / "metrics.jsonl").unlink()
    append_steps(tmp_path, [9.0])
    assert curve.read(math.inf)
    assert curve.step("loss").tolist() == [9.0]


def test_a_first_look_reads_little_of_a_long_file_and_shows_all_of_its_length(tmp_path: Path) -> None:
    record = line(step_record(1, 3.0).to_json())
    with open(tmp_path / "metrics.jsonl", "wb") as file:
        for step in range(1, 30_001):
            file.write(record.replace(b'"step":1,', b'"step":%d,' % step) if step % 100 else record[:70] + b"\n")
        file.write(b'{"kind":"st')
    path = tmp_path / "metrics.jsonl"
    drawn = sketch(path, path.stat().st_size)
    assert 30 < len(drawn) <= 60
    assert drawn.step("step")[0] == 1 and drawn.step("step")[-1] == 29_999
    last, held = newest(path, path.stat().st_size)
    assert last is not None and last["step"] == 29_999 and held is None


def test_reading_stops_in_time_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    append_steps(tmp_path, [1.0] * 4000)
    curve = Curve(tmp_path / "metrics.jsonl")
    assert not curve.read(0.0)
    first = len(curve)
    assert 0 < first < 4000 and curve.unread > 0
    assert curve.read(math.inf) and len(curve) == 4000 and curve.unread == 0


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "metrics.jsonl")
    assert list(GrowingFile(tmp_path / "metrics.jsonl").chunks()) == []
    assert newest(tmp_path / "metrics.jsonl", 0) == (None, None)
