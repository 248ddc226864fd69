"""Whole runs on two ranks: policies, a rank that hangs, a second signal, a wall limit, saving in the background."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trainer.trackers import read_events, read_metrics
from trainer.training.checkpoint import open_checkpoint
from trainer.training.faults.reporting import lost_a_peer

ROOT = Path(__file__).resolve().parents[4]
QUICK = ["evaluation.every_steps=null", "evaluation.samples=1", "run.experiment=faults", "run.id=run"]
NAN = {"kind": "nan", "step": 6, "rank": 1, "times": 2}  # in the pass, and in the one that computes it once more


def start(tiny: list[str], folder: Path, faults: list[dict[str, Any]], *words: str) -> subprocess.CompletedProcess[str]:
    """A run on two ranks with these faults."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ISOFLOP_TEST_FAULTS": json.dumps(faults)}
    words = ["train", *tiny, *QUICK, "launch.processes=2", *words]
    program = [sys.executable, "-m", "tests.trainer.training.faults.chaos", *words]
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)


def events(run: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(run) if event["name"] == name]


def reads(run: Path, rank: int) -> dict[int, list[str]]:
    """Rows by step of the updates that count."""
    lines = (run / f"reads-{rank}.jsonl").read_text().splitlines()
    return {record["step"]: record["rows"] for record in map(json.loads, lines)}


def test_skip_leaves_a_hole_and_rollback_a_wider_one(tiny: list[str], tmp_path: Path) -> None:
    """Step 7 finds the same NaN twice. Skip: batch 6 is left out and step 7 takes batch 7. Rollback to step 4: batches
    4, 5 and 6 are left out. Both end after 12 updates; the ranks would hang or differ if they decided differently."""
    made = {}
    for policy in ("skip", "rollback"):
        folder = tmp_path / policy
        folder.mkdir()
        done = start(tiny, folder, [NAN], f"anomalies.nonfinite={policy}", "checkpoint.asynchronous=false")
        run = folder / "runs" / "faults" / "run"
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(r["step"] for r in read_metrics(run) if r["kind"] == "step") == list(range(1, 13))
        (told,) = events(run, "nonfinite")
        assert told["data"]["batch"] == 6
        assert f"{policy} 1 of 8" in told["text"]
        guard = open_checkpoint(run / "checkpoints" / "step-00000012").manifest["guard"]
        assert guard["holes"] == ([[6, 7]] if policy == "skip" else [[4, 7]])
        made[policy] = [reads(run, rank) for rank in range(2)]
    for rank in range(2):  # both have left out batch 6 and read on from batch 7
        skipped, back = made["skip"][rank], made["rollback"][rank]
        assert [skipped[step] for step in range(4)] == [back[step] for step in range(4)]
        assert [skipped[step] for step in range(6, 10)] == [back[step] for step in range(4, 8)]
        assert not {row for step in (4, 5) for row in skipped[step]} & {row for rows in back.values() for row in rows}


@pytest.mark.slow
def test_stop_halts_and_is_not_started_again(tiny: list[str], tmp_path: Path) -> None:
    done = start(tiny, tmp_path, [NAN], "launch.restarts=5")
    run = tmp_path / "runs" / "faults" / "run"
    assert done.returncode == 3, done.stdout + done.stderr
    assert "is not finite" in done.stderr
    assert not events(run, "resume")
    assert events(run, "halted")[0]["step"] == 6


def test_a_rank_that_hangs_is_named_and_all_are_started_again(tiny: list[str], tmp_path: Path) -> None:
    hang = {"kind": "hang", "rank": 1, "step": 6}
    began = time.monotonic()
    done = start(tiny, tmp_path, [hang], "launch.restarts=1", "faults.hang_seconds=8")
    run = tmp_path / "runs" / "faults" / "run"
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 900  # not the half hour after which the collective itself gives up
    (told,) = events(run, "hang")
    assert "rank 1 did not arrive" in told["text"]
    assert (told["step"], told["data"]["late"], told["data"]["silent"]) == (7, [1], [])
    assert "sleep_in_a_pass" in told["data"]["ranks"]["1"]["stack"]
    assert "sleep_in_a_pass" not in told["data"]["ranks"]["0"]["stack"]
    # Rank 0 waits for rank 1 in a collective, as the records of both tell.
    left = {rank: json.loads((run / f"hang-0-rank{rank}.json").read_text()) for rank in range(2)}
    entries = {rank: left[rank]["flight_recorder"]["gloo"]["entries"] for rank in left}
    waited = entries[0][-1]
    assert not waited["retired"]
    assert waited["collective_seq_id"] not in {
        one["collective_seq_id"] for one in entries[1] if one["process_group"] == waited["process_group"]
    }
    name = f"{waited['profiling_name'].removeprefix('gloo:')} #{waited['collective_seq_id']}"
    assert f"rank 1 has not enqueued {name} (" in told["text"]
    assert told["data"]["files"] == ["hang-0-rank0.json", "hang-0-rank1.json"]
    assert "sleep_in_a_pass" in left[1]["stack"] and left[1]["rank"] == 1
    assert sorted(r["step"] for r in read_metrics(run) if r["kind"] == "step") == list(range(1, 13))


@pytest.mark.slow
def test_a_wall_limit_saves_and_stops_and_is_not_started_again(tiny: list[str], tmp_path: Path) -> None:
    slow = [{"kind": "slow", "rank": 1, "step": step, "seconds": 0.5} for step in range(1, 400)]
    words = ("budget.steps=400", "faults.wall_seconds=25", "checkpoint.every_steps=null", "launch.restarts=5")
    done = start(tiny, tmp_path, slow, *words)
    run = tmp_path / "runs" / "faults" / "run"
    assert done.returncode == 75, done.stdout + done.stderr
    (stopped,) = events(run, "stopped")
    assert "wall-clock limit" in stopped["text"]
    assert [event["step"] for event in events(run, "checkpoint")] == [stopped["step"]]
    assert not events(run, "resume")


def test_a_key_pressed_twice_ends_at_once_and_other_signals_do_not() -> None:
    """The first asks for a checkpoint; pressed again, the key says that there is no time for one. A scheduler that
    repeats TERM before it kills has not said so. By a clock that is moved, each signal comes so many seconds later."""
    program = (
        "import signal, sys, types\n"
        "from trainer.training.faults import signals\n"
        "now = [100.0]\n"
        "signals.time = types.SimpleNamespace(monotonic=lambda: now[0])\n"
        "stop = signals.StopRequest()\n"
        "for word in sys.argv[1:]:\n"
        "    seconds, number = word.split(':')\n"
        "    now[0] += float(seconds)\n"
        "    signal.raise_signal(int(number))\n"
        "    print(stop.signal, flush=True)\n"
    )
    heeded = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP, signal.SIGQUIT)

    def told(*later: tuple[float, signal.Signals]) -> tuple[int, list[str]]:
        """Exit code, and the signal that asked to stop, as it stood after each that was survived."""
        done = subprocess.run(
            [sys.executable, "-c", program, *(f"{seconds}:{int(number)}" for seconds, number in later)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=lambda: [signal.signal(one, signal.SIG_DFL) for one in heeded],  # also where the tests ignore it
        )
        return done.returncode, done.stdout.split()

    for number in heeded:
        again = ((0.0, number), (0.9, number), (1.2, number))  # the second: an echo, as of an agent and a terminal
        if number in (signal.SIGINT, signal.SIGQUIT):
            assert told(*again) == (128 + number, [number.name] * 2)
        else:  # then the first press of a key, and the second one
            assert told(*again, (0.0, signal.SIGINT)) == (0, [number.name] * 4)
            assert told(*again, (0.0, signal.SIGINT), (1.2, signal.SIGINT)) == (130, [number.name] * 4)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_saving_in_the_background_writes_the_same_bytes(processes: int, tiny: list[str], isoflop: Any) -> None:
    written = {}
    for how, background in (("background", "true"), ("waiting", "false")):
        words = [
            *tiny,
            *QUICK[:3],
            f"run.id={how}",
            f"checkpoint.asynchronous={background}",
            f"launch.processes={processes}",
        ]
        done = isoflop("train", *words)
        assert done.returncode == 0, done.stderr
        folder = isoflop.folder / "runs" / "faults" / how / "checkpoints"
        files = sorted(path for path in folder.rglob("*.safetensors"))
        assert len(files) == 3 * 2 * processes  # three checkpoints
        written[how] = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest() for path in files}
    assert written["background"] == written["waiting"]


def test_a_rank_ends_whose_launcher_was_killed_before_it_could_listen() -> None:
    """While a rank imports its modules it does not end with its launcher: it checks by itself when it has done so."""
    rank = (
        "import os, sys, time\n"
        "from trainer.training.faults.signals import LAUNCHED, die_with_parent\n"
        "print('importing', flush=True)\n"
        "while sys.argv[1] == 'killed' and os.getppid() == int(os.environ[LAUNCHED]): time.sleep(0.01)\n"
        "die_with_parent(int(os.environ[LAUNCHED]))\n"
        "print('training', flush=True)\n"
    )
    launcher = (
        "import os, subprocess, sys\n"
        "environment = {**os.environ, 'ISOFLOP_LAUNCHED': str(os.getpid())}\n"
        "subprocess.run([sys.executable, '-c', *sys.argv[1:]], env=environment)\n"
    )
    for fate, told in (("killed", ""), ("lives", "training\n")):
        program = [sys.executable, "-c", launcher, rank, fate]
        process = subprocess.Popen(
            program, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        if fate == "killed":
            process.kill()
        assert process.stdout.read() == told  # until the rank has ended too
        process.wait()
        process.stdout.close()


PAIR = "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:{line}]"


@pytest.mark.parametrize(
    ("last", "sign"),
    [
        (f"{PAIR.format(line=553)} Connection closed by peer [127.0.0.1]:3. This is", "Connection closed by peer"),
        (f"{PAIR.format(line=537)} Read error [127.0.0.1]:3: Connection reset by peer", "Connection reset by peer"),
        (f"{PAIR.format(line=210)} writev [127.0.0.1]:3: Broken pipe. This is", "Broken pipe"),
        ("BrokenPipeError: [Errno 32] Broken pipe", None),  # of a terminal
        ("ValueError: Connection closed", None),
    ],
)
def test_what_gloo_says_of_a_peer_that_is_gone(last: str, sign: str | None) -> None:
    """Between two reads, in one, and between two writes."""
    assert lost_a_peer(f"Traceback (most recent call last):\n  ...\n{last}\n") == sign
