"""Status and cancel, from run folders and a stand-in for squeue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from launch.records import new_launch, write_launch
from launch.status import read_status
from trainer.cli.main import main
from trainer.compose import compose

EVENTS = "events.jsonl"


def make_run(root: Path, run_id: str, /, jobs: tuple[str, ...] = (), step: int = 0, **event: Any) -> Path:
    """A run folder as a worker would have left it after `step` of ten steps."""
    run = root / "exp" / run_id
    run.mkdir(parents=True)
    config = compose(
        ["budget.steps=10", "site.price_per_device_hour=2", "site.currency=EUR", "site.price_date=2026-11"]
    )
    (run / "config.yaml").write_text(config.to_yaml())
    records = [
        {
            "kind": "step",
            "step": n,
            "tokens": 100 * n,
            "tokens_per_second": 1234.5,
            "wall_seconds": 36.0 * n,
            "seconds": {},
        }
        for n in range(1, step + 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if event:
        whole = {"step": step, "data": {}, "attempt": 0, "time": time.time() - 60, **event}
        (run / EVENTS).write_text(json.dumps(whole) + "\n")
    if jobs:
        write_launch(new_launch(run), "slurm", jobs=jobs)
    return run


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """squeue and scancel that read and write files."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "squeue").write_text(f"#!/bin/bash\ncat {tmp_path}/queue\n")
    (programs / "scancel").write_text(f'#!/bin/bash\necho "$@" >>{tmp_path}/cancelled\n')
    for file in programs.iterdir():
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path / "queue"


def test_states_come_from_the_queue_while_a_job_lives_and_then_from_the_run(tmp_path: Path, queue: Path) -> None:
    root = tmp_path / "runs"
    queue.write_text("11 RUNNING None\n12 PENDING Priority\n13_4 COMPLETED None\n14 FAILED NonZeroExitCode\n")
    make_run(root, "a", ("11",), step=3, name="checkpoint", text="saved step-00000003")
    make_run(root, "b", ("12",))
    make_run(root, "c", ("13_4",), step=10, name="finished", text="finished")
    make_run(root, "d", ("14",))
    make_run(root, "e", ("9",), step=2, name="stopped", text="stopped: SIGUSR2", data={"status": "stopped"})
    make_run(root, "f")
    found = {one.run.removeprefix("exp/"): one for one in read_status(root)}
    assert {name: one.state for name, one in found.items()} == {
        "a": "running",
        "b": "pending (Priority)",
        "c": "finished",
        "d": "failed",
        "e": "stopped",
        "f": "not started",
    }
    assert (found["a"].step, found["a"].steps, found["a"].tokens_per_second) == (3, 10, 1234.5)
    # three steps of 36 s on one device at 2 EUR an hour
    assert found["a"].price["amount"] == pytest.approx(3 * 36 / 3600 * 2)
    assert found["a"].price["unit"] == "EUR"
    assert found["b"].price["amount"] is None
    assert found["a"].event_seconds_ago == pytest.approx(60, abs=30)


def test_a_table_and_a_clock_that_jumped(tmp_path: Path, queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue.write_text("")
    root = tmp_path / "runs"
    make_run(root, "ahead", step=1, name="checkpoint", text="saved step-00000001", time=time.time() + 7230)
    (root / "exp" / "torn").mkdir()
    (root / "exp" / "torn" / "config.yaml").write_text("model: 3")
    assert main(["status", str(root)]) == 0
    out = capsys.readouterr().out
    assert "exp/ahead" in out
    assert "saved step-00000001 (by a clock 2 h 00 min ahead of this one)" in out
    assert "torn" not in out


def test_cancel_names_only_live_jobs(tmp_path: Path, queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue.write_text("21 RUNNING None\n20 COMPLETED None\n")
    run = make_run(tmp_path / "runs", "a", ("20", "21"))
    assert main(["cancel", str(run)]) == 0
    assert "cancelled job 21" in capsys.readouterr().out
    assert (tmp_path / "cancelled").read_text() == "21\n"


def test_cancel_here_lets_the_run_save(isoflop: Any, tiny: list[str]) -> None:
    words = isoflop.arguments("launch", *tiny, "run.id=r", "budget.steps=100000", "checkpoint.every_steps=null")
    process = subprocess.Popen(words, cwd=isoflop.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 3/"):
                break
        status = json.loads(isoflop("status", "--json").stdout)
        assert [(one["state"], one["launcher"]) for one in status] == [("running", "local")]
        done = isoflop("cancel", "llama-mini-causal-text/r")
        assert f"asked process {process.pid} to save and stop" in done.stdout, done.stderr
        _, err = process.communicate(timeout=120)
        assert process.returncode == 75, err
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    run = isoflop.folder / "runs" / "llama-mini-causal-text" / "r"
    assert list((run / "checkpoints").glob("step-*"))
    again = isoflop("cancel", "llama-mini-causal-text/r")
    assert again.returncode == 2
    assert "nothing holds it" in again.stderr
