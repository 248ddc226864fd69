"""What a person reads: plain lines in a pipe, a live bar on a terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.config import TrackerConfig
from trainer.trackers.console import ConsoleTracker, _clock, _count
from trainer.trackers.records import EvaluationRecord, Event

LOOP = Path(__file__).with_name("fake_loop.py")


def run_plain(context, make_step, make_evaluation, steps, **config) -> list[str]:
    out = io.StringIO()
    tracker = ConsoleTracker(TrackerConfig(console="plain", **config), out)
    tracker.start(context)
    for step in steps:
        tracker.step(make_step(step))
        if step % 10 == 0:
            tracker.evaluation(make_evaluation(step))
    tracker.event(Event("checkpoint", 0.0, 20, "checkpoint saved"))
    tracker.finish("finished", {"step": 20, "tokens": 20000, "kWh": None, "hours": 0.123456789})
    return out.getvalue().splitlines()


def test_plain_lines_say_every_field_and_always_the_first_and_the_last_step(make_context, make_step, make_evaluation):
    lines = run_plain(make_context(), make_step, make_evaluation, range(1, 24 - 3), every_steps=8)
    shown = [line for line in lines if line.startswith("step ") and "/20" in line]
    assert [re.match(r"step (\d+)/20", line)[1] for line in shown] == ["1", "8", "16", "20"]
    assert shown[0] == "step 1/20  loss 8.0000  lr 1.00e-03  2k tokens/s  MFU n/a  ETA n/a"
    # 0.5 s a step, 4 steps to go; the evaluation at step 10 is known by then
    assert (
        shown[2]
        == "step 16/20  loss 0.5000  lr 1.00e-03  2k tokens/s  MFU n/a  held-out 2.2500 bits per byte  ETA 0:02"
    )
    assert "held-out after step 10: 2.2500 bits per byte (unigram 3.0000), loss 4.0000" in lines
    assert "step 20: checkpoint saved" in lines
    assert (
        lines[-4] == "finished after step 20 of 20, 20k tokens, 0:10, held-out 2.2500 bits per byte (25% below unigram)"
    )
    assert lines[-3:] == ["  tokens  20000", "  kWh     not stated", "  hours   0.123457"]


def test_a_loss_above_the_baseline_is_not_told_as_a_negative_gain(make_context, make_step, make_evaluation):
    def worse(step: int) -> EvaluationRecord:
        return replace(make_evaluation(step), bits_per_byte=3.75)

    lines = run_plain(make_context(), make_step, worse, range(1, 21))
    assert lines[-4].endswith("held-out 3.7500 bits per byte (25% above unigram)")


def test_a_run_that_stops_early_shows_its_last_step(make_context, make_step, make_evaluation):
    lines = run_plain(make_context(total_steps=1000), make_step, make_evaluation, range(1, 14), every_steps=10)
    assert any(line.startswith("step 13/1000") for line in lines)


def test_a_resumed_run_shows_its_first_step_and_counts_time_from_there(make_context, make_step, make_evaluation):
    lines = run_plain(make_context(total_steps=40, resumed_from=15), make_step, make_evaluation, range(16, 31))
    assert "going on from step 15" in lines
    shown = [line for line in lines if re.match(r"step \d+/40", line)]
    assert [line.split()[1] for line in shown] == ["16/40", "20/40", "30/40"]
    assert shown[-1].endswith("ETA 0:05")


def test_mfu_is_shown_where_the_peak_is_stated(make_context, make_step):
    out = io.StringIO()
    tracker = ConsoleTracker(TrackerConfig(console="plain"), out)
    tracker.start(make_context())
    tracker.step(make_step(1, mfu=0.4567))
    assert "MFU 45.7%" in out.getvalue()


def test_a_run_without_a_step(make_context):
    out = io.StringIO()
    tracker = ConsoleTracker(TrackerConfig(console="plain"), out)
    tracker.start(make_context())
    tracker.finish("stopped", {})
    assert out.getvalue().splitlines()[-1] == "stopped"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999.6, "1k"),
        (999_950, "1M"),
        (4_915_200, "4.92M"),
        (1.5e9, "1.5B"),
        (2e12, "2T"),
        (float("nan"), "n/a"),
    ],
)
def test_counts(number, text):
    assert _count(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (3599.7, "1:00:00"), (90061, "25:01:01")])
def test_clocks(seconds, text):
    assert _clock(seconds) == text


def on_a_terminal(columns: int, *arguments: str, **environment: str) -> str:
    """What a terminal of that width receives from the fake loop."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
    process = subprocess.Popen(
        [sys.executable, str(LOOP), *arguments], stdout=slave, stderr=slave, stdin=slave, env=env
    )
    os.close(slave)
    received = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not chunk:
            break
        received += chunk
    os.close(master)
    assert process.wait() == 0, received.decode()
    return received.decode()


@pytest.mark.parametrize("columns", [120, 80, 40])
def test_the_live_bar_on_a_terminal(tmp_path, columns):
    received = on_a_terminal(columns, str(tmp_path), "--steps", "30", "--seconds", "0.03")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", received)
    frames = re.findall(r"step (\d+)/30", text)
    assert len(frames) >= 3, "the bar moves"
    assert text.count("held-out after step 20") == 1
    assert "tokens printed by the loop itself" in text  # other output appears above the bar, whole
    assert "finished after step 30 of 30" in text.replace("\r\n", " " if columns == 40 else "\r\n")
    widest = max(len(line) for line in text.replace("\r", "\n").split("\n") if "━" in line)
    assert widest <= columns
    assert received.rfind("\x1b[?25h") > received.rfind("\x1b[?25l") >= 0, "the cursor comes back"


def test_a_dumb_terminal_gets_plain_lines(tmp_path):
    received = on_a_terminal(80, str(tmp_path), "--steps", "5", TERM="dumb")
    assert "\x1b" not in received
    assert "step 5/5" in received


def test_notes_on_hosts_stand_at_the_beginning(make_context, make_step, make_evaluation):
    lines = run_plain(make_context(notes=("this host is busy: ...",)), make_step, make_evaluation, range(1, 3))
    assert lines[2] == "this host is busy: ..."


@pytest.mark.parametrize(("share", "steps", "told"), [(0.45, 60, 1), (0.45, 15, 0), (0.1, 60, 0), (None, 60, 0)])
def test_threads_that_keep_waiting_for_cores_are_told_once(make_context, make_step, share, steps, told):
    """Steps take half a second, and ten seconds are watched."""
    out = io.StringIO()
    tracker = ConsoleTracker(TrackerConfig(console="plain", every_steps=1000), out)
    tracker.start(make_context(total_steps=1000))
    for step in range(1, steps + 1):
        tracker.step(replace(make_step(step), waiting=share))
    lines = [line for line in out.getvalue().splitlines() if "busy" in line]
    assert len(lines) == told and all("threads waited 45% of their time for a core" in line for line in lines)


def test_padding_is_said_where_it_is_more_than_a_hundredth(make_context, make_step):
    for share, said in ((0.23, "2k tokens/s (23% padding)"), (0.009, "2k tokens/s  ")):
        out = io.StringIO()
        tracker = ConsoleTracker(TrackerConfig(console="plain", every_steps=1), out)
        tracker.start(make_context())
        tracker.step(replace(make_step(1), padding=share))
        assert said in out.getvalue()
