"""Roots as they are found: files that kills tore, folders that go and come, names and numbers that no run writes."""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.board.conftest import Serving, Written, append_steps, step_record
from tests.trainer.board.test_index import read
from tests.trainer.board.test_server import asked
from trainer.board.board import Asked, Board
from trainer.board.curve import Curve
from trainer.books.records import read_steps
from trainer.trackers.jsonl import read_metrics
from trainer.trackers.records import EvaluationRecord

STRANGE = [
    b'{"kind":"step","step":7,"loss":',
    b'\xff\xfe{"kind":"step"}\x00\x80',
    b"\x00" * 200,
    b"[1,2,3]",
    b"",
    b'{"kind":"event","step":3}',
]


def lines_of(losses: dict[int, object], attempt: int = 0) -> list[bytes]:
    """As the tracker writes them; losses may be what only other programs write."""
    made = []
    for step, loss in losses.items():
        text = json.dumps(step_record(step, 12345.5, attempt).to_json(), separators=(",", ":"))
        made.append(text.replace("12345.5", str(loss)).encode())
    return made


def damaged(path: Path) -> None:
    """Sixty steps, the last twenty of them trained again; torn in the middle and at the end."""
    first = lines_of({step: 5 - step / 100 for step in range(1, 61)})
    first[10:10] = STRANGE
    first += lines_of({59: "NaN", 60: "Infinity"})
    second = lines_of({41: "NaN", 42: "-Infinity", 43: "1e300", **{s: 4 - s / 100 for s in range(44, 71)}}, 1)
    second[5:5] = STRANGE
    path.write_bytes(b"\n".join([*first, *second]) + b'\n{"kind":"step","step":71,"samples":284,"tok')


def test_a_damaged_file_gives_the_curve_of_the_report(tmp_path: Path) -> None:
    damaged(tmp_path / "metrics.jsonl")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = Curve(tmp_path / "metrics.jsonl")
        assert curve.read(math.inf)
    kept = read_steps(tmp_path).kept
    assert curve.step("step").tolist() == [one["step"] for one in kept] == list(range(1, 71))
    expected = [float(one["loss"]) if abs(one["loss"] or math.nan) < 1e38 else math.nan for one in kept]
    np.testing.assert_allclose(curve.step("loss"), expected, rtol=1e-6)
    assert np.isnan(curve.step("loss")).sum() == 3
    assert np.isfinite(curve.step("seconds")).all()
    assert [one["step"] for one in read_metrics(tmp_path) if one["kind"] == "step"] == list(range(1, 71))


def test_what_is_not_finite_spoils_no_mean_and_no_page(written: Written, serving: Serving, tmp_path: Path) -> None:
    run = written("exp/a", [])
    damaged(run / "metrics.jsonl")
    with open(run / "metrics.jsonl", "ab") as file:
        line = json.dumps(EvaluationRecord(70, 70_000, 3.5, 1.5, 3.0, 1000, 0.1).to_json(), separators=(",", ":"))
        file.write(f"\n{line.replace('1.5,', 'NaN,').replace('3.5,', 'Infinity,')}\n".encode())
    events = [{"name": "spike", "time": math.nan, "step": 10**20, "text": "x"}, {"name": "halted", "step": math.inf}]
    (run / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    (run / "samples.jsonl").write_text('{"step":NaN,"prompt":7,"text":"\\ud800 <b>x</b>"}\n')
    with serving(tmp_path) as address:
        status, _, content = asked(address, "/api/curves?runs=0&mean=4&of=1")
        curve = json.loads(content)["curves"][0]
        assert status == 200 and curve["whole"] and curve["y"][-1] == pytest.approx(4 - 0.685)
        status, _, content = asked(address, "/api/run?id=0")
        assert status == 200 and "&lt;b&gt;x" in json.loads(content)["html"]
        page = asked(address, "/")[2].decode()
        row = page[page.index("<tbody>") :]
        assert "not stated" in row and ">nan" not in row and ">inf" not in row


def test_a_line_that_is_being_written_counts_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = lines_of({1: 3.0})[0]
    curve = Curve(path)
    for end in (1, len(line) // 2, len(line)):
        path.write_bytes(line[:end])
        assert curve.read(math.inf) and len(curve) == 0
    path.write_bytes(line + b"\n")
    assert curve.read(math.inf) and curve.step("loss").tolist() == [3.0]


def test_a_run_that_is_deleted_is_gone_and_one_that_comes_back_is_there(written: Written, tmp_path: Path) -> None:
    written("exp/a", [3.0, 2.5])
    kept = written("exp/b", [4.0])
    board = read(tmp_path)
    seen = board.version
    board.curves(Asked([0, 1]))
    shutil.move(tmp_path / "exp/a", tmp_path / "aside")
    board.refresh(10)
    [changed] = board.index(seen)["runs"]
    assert (changed.name, changed.state, changed.loss, changed.path) == ("exp/a", "gone", None, None)
    assert board.details(0) is not None and [one["id"] for one in board.curves(Asked([0, 1]))] == [1]
    shutil.move(tmp_path / "aside", tmp_path / "exp/a")
    append_steps(kept, [3.5], begin=2)
    board._listed = -math.inf
    board.refresh(10)
    assert [(one.state, one.loss) for one in board.runs] == [("interrupted", 2.5), ("interrupted", 3.5)]
    assert len(board.curves(Asked([0]))[0]["x"]) == 2


def test_a_run_that_may_not_be_read_hides_no_other(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written("exp/a", [3.0])
    written("exp/b", [4.0])
    from trainer.board import board_run

    real = board_run.state_of

    def refusing(run: Path, *others: Any) -> str:
        if run.name == "a":
            raise PermissionError(13, "Permission denied")
        return real(run, *others)

    monkeypatch.setattr(board_run, "state_of", refusing)
    assert [(one.name, one.state) for one in read(tmp_path).runs] == [
        ("exp/a", "not readable"),
        ("exp/b", "interrupted"),
    ]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_lies_in_the_place_of_a_lock_is_not_waited_for(make: Any, written: Written, tmp_path: Path) -> None:
    make(written("exp/a", [3.0]) / ".lock")
    assert [one.state for one in read(tmp_path).runs] == ["interrupted"]


def test_names_that_are_no_text_and_links_in_circles(written: Written, serving: Serving, tmp_path: Path) -> None:
    run = written("exp/a", [3.0])
    (run.parent / "round").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    os.rename(run, os.fsencode(run.parent) + b"/\xff<script>$root${bokeh}\"'&amp;")
    with serving(tmp_path) as address:
        status, _, content = asked(address, "/")
        assert status == 200 and b"<script>$" not in content and b"&lt;script&gt;$root${bokeh}&quot;" in content
        status, _, content = asked(address, "/api/index")
        assert status == 200 and len(json.loads(content)["runs"]) == 1
        assert asked(address, "/api/run?id=0")[0] == 200


def test_a_fault_is_one_line_and_the_next_question_is_answered(
    written: Written, serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written("exp/a", [3.0])

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by\nzero")

    with serving(tmp_path) as address:
        with monkeypatch.context() as patched:
            patched.setattr(Board, "details", broken)
            status, _, content = asked(address, "/api/run?id=0")
            assert status == 500 and content == b"ZeroDivisionError: by zero\n"
        assert asked(address, "/api/run?id=0")[0] == 200
