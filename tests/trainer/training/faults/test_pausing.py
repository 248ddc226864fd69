"""A run that pauses outside of its window, by a faked clock, is the run without one, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[4] / "examples" / "curves" / "typical-day.csv"
# A plugin, so that every rank has it: each look at the clock takes 20 minutes, sleep takes no time of ours.
CLOCK = """
import os, signal
from trainer.descriptions.hooks import HookDescription
from trainer.training.faults import pausing
from trainer.utils.schema import key

class Clock(HookDescription):
    name = "clock"
    help = "brings a clock of its own"
    implementation = "clock:nothing"
    off = ("clock_of_mine", None)

    class Keys(HookDescription.Keys):
        clock_of_mine: int | None = key(None, "of no use")

time = [1767225600.0 + float(os.environ.get("FROM_SECOND", 0))]  # 2026-01-01T00:00Z

def now():
    time[0] += 1200
    return time[0]

def sleep(seconds):
    if os.environ.get("STOP_IN_PAUSE") == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    time[0] += 1200

pausing.now, pausing.sleep = now, sleep
"""
WINDOW = ["launch.window=clean:210", f"site.curve={EXAMPLE}", "site.curve_repeats=true"]


@pytest.fixture
def clock(tmp_path):
    (tmp_path / "clock.py").write_text(CLOCK)
    return f"plugins=[{tmp_path / 'clock.py'}]"


def outcome(run: Path) -> tuple[list[tuple], dict]:
    """Loss and rate of every step, and the hashes of the last checkpoint's files."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [(one["step"], one["loss"], one["grad_norm"], one["lr"]) for one in lines if one["kind"] == "step"]
    manifest = json.loads((run / "checkpoints" / "step-00000012" / "manifest.json").read_text())
    return steps, {name: one["sha256"] for name, one in manifest["files"].items()}


def events(run: Path, name: str) -> list[dict]:
    lines = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [line for line in lines if line["name"] == name]


@pytest.fixture(scope="module")
def words(tiny):
    return [*tiny, "run.experiment=e", "checkpoint.every_steps=null"]


@pytest.fixture(scope="module")
def plain(command, words, tmp_path_factory):
    """The run without a window."""
    isoflop = command(tmp_path_factory.mktemp("plain"))
    assert isoflop("train", *words, "run.id=plain").returncode == 0
    return isoflop.folder / "runs" / "e" / "plain"


def test_same_bits_with_pauses(isoflop, words, plain, clock):
    done = isoflop("train", clock, *words, "run.id=window", *WINDOW)
    assert done.returncode == 0, done.stderr
    paused = isoflop.folder / "runs" / "e" / "window"
    assert outcome(paused) == outcome(plain)
    pauses = events(paused, "pause")
    assert len(pauses) >= 2 and "launch.window=clean:210 is closed; it opens 2026-01-01T" in pauses[0]["text"]
    # Before the first step there is nothing to save; later pauses have a checkpoint behind them.
    saved = {line["step"] for line in events(paused, "checkpoint")}
    assert {line["step"] for line in pauses} - {0} <= saved
    tag = json.loads((paused / "pricetag.json").read_text())
    assert tag["measured"]["time"]["paused"] > 0
    assert tag["measured"]["time"]["wall"] > 0
    assert (paused / "intensity.csv").read_bytes() == EXAMPLE.read_bytes()  # frozen with the run
    assert events(paused, "go_on")[0]["data"]["paused_seconds"] >= 3600


def test_stopped_in_a_pause_it_goes_on_to_the_same_bits(isoflop, words, plain, clock):
    stopped = isoflop("train", clock, *words, "run.id=window", *WINDOW, FROM_SECOND="9600", STOP_IN_PAUSE="1")
    assert stopped.returncode not in (0, 2), stopped.stderr
    run = isoflop.folder / "runs" / "e" / "window"
    assert 0 < events(run, "pause")[-1]["step"] < 12
    assert events(run, "stopped")
    done = isoflop("train", f"resume={run}", "launch.window=null")
    assert done.returncode == 0, done.stderr
    assert outcome(run) == outcome(plain)


@pytest.mark.slow
def test_two_ranks_pause_together(isoflop, tiny, clock):
    words = [*tiny, "run.experiment=e", "launch.processes=2"]
    assert isoflop("train", *words, "run.id=plain").returncode == 0
    done = isoflop("train", clock, *words, "run.id=window", *WINDOW)
    assert done.returncode == 0, done.stderr
    plain, paused = (isoflop.folder / "runs" / "e" / name for name in ("plain", "window"))
    assert outcome(paused) == outcome(plain)
    assert len(events(paused, "pause")) >= 2
