"""The JSON lines of a run survive kills, full disks and numbers that are not finite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from trainer.trackers import Trackers, read_events, read_metrics
from trainer.trackers.jsonl import JsonLines, JsonlTracker
from trainer.trackers.records import Event


def steps(run: Path) -> list[int]:
    return [record["step"] for record in read_metrics(run) if record["kind"] == "step"]


def test_records_come_back_as_they_were(tmp_path, make_context, make_step, make_evaluation):
    tracker = JsonlTracker(tmp_path)
    tracker.start(make_context())
    event = Event("checkpoint", 1.5, 2, "checkpoint at step 2\nwith a line break", {"bytes": 12})
    tracker.step(make_step(1))
    tracker.step(make_step(2))
    tracker.evaluation(make_evaluation(2))
    tracker.event(event)
    tracker.finish("finished", {})
    assert read_metrics(tmp_path) == [
        make_step(1).to_json() | {"replays": 0},
        make_step(2).to_json() | {"replays": 0},
        make_evaluation(2).to_json() | {"replays": 0},
    ]
    assert read_events(tmp_path) == [event.to_json()]


def test_nothing_written_yet(tmp_path):
    assert read_metrics(tmp_path) == []
    assert read_events(tmp_path) == []


@pytest.mark.parametrize("cut", [1, 7, 40, 150, 300])
def test_a_torn_last_line_costs_only_itself(tmp_path, make_context, make_step, cut):
    first = JsonlTracker(tmp_path)
    for step in (1, 2, 3):
        first.step(make_step(step))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert steps(tmp_path) == ([1, 2, 3] if cut == 1 else [1, 2])  # only the line break is gone: the record is whole
    second = JsonlTracker(tmp_path)
    second.step(make_step(3, attempt=1))
    second.step(make_step(4, attempt=1))
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_a_killed_writer_leaves_whole_lines(tmp_path):
    code = """
import sys
from pathlib import Path
from trainer.trackers.jsonl import JsonLines
lines = JsonLines(Path(sys.argv[1]))
step = 0
while True:
    step += 1
    lines.append({"kind": "step", "step": step, "text": "x" * 5000})
"""
    path = tmp_path / "metrics.jsonl"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size > 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = steps(tmp_path)
    assert len(written) >= 19
    assert written == list(range(1, len(written) + 1))


def test_a_replayed_step_is_superseded_by_the_later_attempt(tmp_path, make_step, make_evaluation):
    tracker = JsonlTracker(tmp_path)
    for step in range(1, 8):
        tracker.step(make_step(step))
        if step in (4, 6):
            tracker.evaluation(make_evaluation(step))
    for step in (5, 6):  # resumed from the checkpoint at step 4, and killed before it was back at step 7
        tracker.step(make_step(step, attempt=1, loss=0.5))
    tracker.evaluation(make_evaluation(6, attempt=1))

    fold = read_metrics(tmp_path)
    assert [(r["kind"], r["step"], r["attempt"], r["replays"]) for r in fold] == [
        ("step", 1, 0, 0),
        ("step", 2, 0, 0),
        ("step", 3, 0, 0),
        ("step", 4, 0, 0),
        ("evaluation", 4, 0, 0),
        ("step", 5, 1, 1),
        ("step", 6, 1, 1),
        ("evaluation", 6, 1, 1),
    ]
    everything = read_metrics(tmp_path, superseded=True)
    assert len(everything) == 12
    assert [(r["kind"], r["step"]) for r in everything if r["superseded"]] == [
        ("step", 5),
        ("step", 6),
        ("evaluation", 6),
        ("step", 7),
    ]


def test_numbers_that_are_not_finite_or_not_pythons_stay_json(tmp_path, make_step):
    tracker = JsonlTracker(tmp_path)
    tracker.step(make_step(1, loss=float("nan"), grad_norm=float("inf"), lr=np.float32(0.5), sums={"n": np.int64(3)}))

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    record = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert record["loss"] is None
    assert record["grad_norm"] is None
    assert record["lr"] == 0.5
    assert record["sums"] == {"n": 3}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_warns_once_and_the_run_goes_on(tmp_path, make_context, make_step, capsys):
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "isoflop-test", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mount is not allowed here")
    try:
        trackers = Trackers([JsonlTracker(tmp_path)])
        trackers.start(make_context())
        for step in range(1, 101):
            trackers.step(make_step(step))
        room = steps(tmp_path)
        assert 0 < len(room) < 100
        assert room == list(range(1, len(room) + 1))
        subprocess.run(["mount", "-o", "remount,size=64k", str(tmp_path)], check=True)
        trackers.step(make_step(101))  # there is room again
        trackers.finish("finished")
        assert steps(tmp_path) == [*room, 101]
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "metrics.jsonl" in said[0] and "No space left on device" in said[0]
    assert f"{100 - len(room)} records are missing" in said[1]


def test_a_short_write_is_mended(tmp_path, monkeypatch):
    """A disk that fills up takes part of a line; what is written later starts on a line of its own."""
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.append({"step": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:5]))
    with pytest.raises(OSError, match="No space left"):
        lines.append({"step": 2})
    monkeypatch.setattr(os, "write", write)
    lines.append({"step": 3})
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 3]
