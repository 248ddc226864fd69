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

from launch import run_launch
from launch.records import new_launch, write_launch
from launch.status import read_status
from trainer.cli.main import main
from trainer.compose import compose
from trainer.run_folder import RunFolder
from trainer.utils.errors import UserError
from trainer.worker import logged

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


def fail_in_logbook(run: Path) -> None:
    events = [
        {"name": "start", "text": "start", "step": 0, "data": {}, "attempt": 0, "time": 1.0},
        {"name": "lost", "text": "rank 1: ValueError: bad loss; this attempt ends", "step": 2, "data": {"rank": 1}},
    ]
    (run / EVENTS).write_text("".join(json.dumps(event) + "\n" for event in events))


def test_why_a_job_waits_or_was_refused_and_why_a_run_failed(
    tmp_path: Path, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    queue.write_text(
        "21 PENDING Priority\n22 PENDING PartitionTimeLimit\n23 FAILED NonZeroExitCode\n24 PENDING\n"
        "25 OUT_OF_MEMORY OutOfMemory\n"
    )
    for number, name in enumerate(("waits", "stuck", "checked", "silent", "killed"), 21):
        make_run(root, name, (str(number),))
    (log := root / "exp" / "checked" / "logs" / "slurm-23.out").parent.mkdir()
    log.write_text("isoflop: node n1: no GPU\nisoflop: node n2: 3 GB of memory, 4 GB wanted\nsome more\n")
    fail_in_logbook(make_run(root, "raised"))
    make_run(root, "halted", step=3, name="halted", text="halted: loss is not finite", data={"status": "halted"})
    make_run(root, "fine", step=10, name="finished", text="finished")
    write_launch(new_launch(make_run(root, "refused")), "slurm", refused="sbatch: Invalid partition")
    write_launch(
        new_launch(make_run(root, "again", step=2, name="stopped", text="stopped", data={"status": "stopped"})),
        "slurm",
        refused="sbatch: Invalid qos",
    )
    found = {one.run.removeprefix("exp/"): (one.state, one.reason) for one in read_status(root)}
    assert found == {
        "waits": ("pending (Priority)", "Priority"),
        "stuck": ("pending (PartitionTimeLimit)", "PartitionTimeLimit: launch.time is more than the partition allows"),
        "silent": ("pending", None),
        "checked": ("failed", "node n2: 3 GB of memory, 4 GB wanted"),
        "killed": ("out_of_memory", "OutOfMemory"),
        "raised": ("failed", "rank 1: ValueError: bad loss; this attempt ends"),
        "halted": ("halted", "loss is not finite"),
        "fine": ("finished", None),
        "refused": ("refused", "sbatch: Invalid partition"),
        "again": ("stopped", "sbatch: Invalid qos"),
    }
    assert main(["status", str(root)]) == 0
    assert "sbatch: Invalid partition" in capsys.readouterr().out


def test_what_sbatch_refuses_is_kept_and_a_chain_that_began_is_taken_back(tmp_path: Path, queue: Path) -> None:
    """The second job of a chain is refused: the first is cancelled, and status says why."""
    sbatch = queue.parent / "bin" / "sbatch"
    sbatch.write_text(
        f"#!/bin/bash\nif [ -e {tmp_path}/one ]; then\n"
        "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1; fi\n"
        f"touch {tmp_path}/one\necho 31\n"
    )
    sbatch.chmod(0o755)
    queue.write_text("31 CANCELLED None\n")
    run = make_run(tmp_path / "runs", "chain")
    config = compose(["launch=slurm", "launch.chain=2"])
    with pytest.raises(UserError, match="QOSMaxSubmitJobPerUserLimit; cancelled the chain's job 31"):
        run_launch(config, run)
    assert (tmp_path / "cancelled").read_text() == "31\n"
    (one,) = read_status(tmp_path / "runs")
    assert one.state == "refused"
    assert "QOSMaxSubmitJobPerUserLimit" in str(one.reason)


def test_an_error_before_the_first_step_is_told(tmp_path: Path) -> None:
    """Of a run that began, of one whose newest attempt could not, and of one that had finished."""
    folder = RunFolder(make_run(tmp_path / "runs", "broken"))
    for attempt in range(2):
        with pytest.raises(RuntimeError), logged(folder, rank=0):
            raise RuntimeError(f"CUDA out of memory {attempt}")
    finished = RunFolder(make_run(tmp_path / "runs", "whole", step=10, name="finished", text="finished"))
    with pytest.raises(UserError), logged(finished, rank=0):
        raise UserError("no room")
    found = {one.run: (one.state, one.reason) for one in read_status(tmp_path / "runs")}
    assert found["exp/broken"] == ("failed", "rank 0: RuntimeError: CUDA out of memory 1; this attempt ends")
    assert found["exp/whole"] == ("finished", None)


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
