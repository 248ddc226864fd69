"""The real W&B client, offline and against a stand-in server on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.trainer.trackers.conftest import KEY, LOOP, ROOT
from trainer.books import flops
from trainer.books.budget import price_of
from trainer.books.run_length import run_tokens
from trainer.config import Config
from trainer.trackers.wandb import cost_metrics, evaluation_metrics, run_id, step_metrics

Loop = Callable[..., subprocess.CompletedProcess[str]]


def offline_history(run: Path) -> list[dict]:
    """The rows of every offline folder below a run, as the W&B client itself reads them."""
    rows = []
    tool = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json"]
    for folder in sorted((run / "wandb").glob("offline-run-*")):
        done = subprocess.run([*tool, str(folder)], capture_output=True, text=True, timeout=300, check=False)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        rows += [record["history"]["item"] for record in records if record["type"] == "history"]
    return rows


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_offline_run_reads_back(run, loop):
    done = loop("--steps", "25", "--wandb", "offline")
    rows = offline_history(run)
    assert [row["_step"] for row in rows] == [1, 10, 20, 25]
    assert rows[0]["train/loss"] == 8.3
    assert rows[2]["train/loss"] == pytest.approx(8.3 / 20**0.3)
    assert rows[2]["val/bits_per_byte"] == 2.25  # the evaluation shares the row of its step, and so its axes
    assert rows[2]["tokens"] == 20 * 8192
    assert rows[2]["flop"] == 20 * 1e11
    assert rows[2]["optim/lr"] == 3e-3
    assert rows[2]["memory/peak_gib"] == 1
    assert "perf/mfu" not in rows[2] and "energy/cpu_kwh" not in rows[2]  # unknown is absent, not 0
    folder = next((run / "wandb").glob("offline-run-*"))
    assert f"wandb sync {folder}" in done.stdout
    assert done.stderr == ""
    assert not files_with(KEY, run)


@pytest.mark.parametrize("what", ["no key", pytest.param("refused", marks=pytest.mark.slow), "silent"])
def test_without_a_server_it_logs_offline(run, loop, what):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if what == "silent":  # connections are taken and nothing is ever said
            listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        steps = ("--steps", "4", "--noise-at", "3", "--server-seconds", "2")
        done = loop(*steps, "--wandb", "auto", url=url, key=None if what == "no key" else KEY)
    assert [row["_step"] for row in offline_history(run)] == [1, 3, 4]
    reason = "no API key for" if what == "no key" else "does not answer"
    assert len(done.stderr.splitlines()) == 1
    assert reason in done.stderr and "logging offline" in done.stderr


def test_online_run(run, loop, wandb_server):
    done = loop("--steps", "40", "--wandb", "auto", "--seconds", "0.01", url=wandb_server.url)
    [(name, rows)] = wandb_server.history.items()
    assert name == run_id(run)
    assert [row["_step"] for row in rows] == [1, 10, 20, 30, 40]
    assert rows[-1]["val/loss"] == 4.0
    assert wandb_server.exit_codes == [0]
    assert wandb_server.configs[0]["model"]["value"]["name"] == "llama-mini"
    assert wandb_server.configs[0]["parameters"]["value"] == 4_200_000
    planned = Config.model_validate({"budget": {"steps": 50}})
    assert wandb_server.configs[0]["planned_flop"]["value"] == flops(planned).total
    assert wandb_server.configs[0]["planned_tokens"]["value"] == run_tokens(planned)
    axes = {metric.get("1") or metric["2"]: metric for metric in wandb_server.configs[-1]["_wandb"]["value"]["m"]}
    assert {"tokens", "flop", "samples", "kwh", "gco2e", "train/*", "val/*", "val/loss"} <= axes.keys()
    assert f"W&B run {wandb_server.url}" in done.stdout
    assert done.stderr == ""
    assert not files_with(KEY, run)
    # the key travels in the Authorization header alone, never to the question whether anybody is there
    assert all(KEY not in path + body for _, path, _, body in wandb_server.log)
    assert all("Authorization" not in headers for method, _, headers, _ in wandb_server.log if method == "GET")


def test_a_resume_continues_the_same_run_and_repeats_no_step(run, loop, wandb_server):
    loop("--steps", "30", "--stop-at", "17", "--every", "1", "--wandb", "auto", url=wandb_server.url)
    assert [row["_step"] for row in next(iter(wandb_server.history.values()))] == list(range(1, 18))
    again = ("--resumed-from", "12", "--attempt", "1", "--steps", "30", "--every", "1", "--wandb", "auto")
    loop(*again, url=wandb_server.url)
    [rows] = wandb_server.history.values()
    assert [row["_step"] for row in rows] == list(range(1, 31))


def test_an_offline_resume_has_the_same_id_and_repeats_no_step(run, loop):
    loop("--steps", "12", "--stop-at", "7", "--every", "1", "--wandb", "offline")
    loop("--resumed-from", "5", "--attempt", "1", "--steps", "12", "--every", "1", "--wandb", "offline")
    folders = sorted((run / "wandb").glob("offline-run-*"))
    assert [folder.name.rpartition("-")[2] for folder in folders] == [run_id(run)] * 2
    assert [row["_step"] for row in offline_history(run)] == list(range(1, 13))


@pytest.mark.slow
def test_three_offline_attempts_sync_as_one_run(run, loop, wandb_server, tmp_path):
    """The server gets each step once and under its own number, though every attempt replays some."""
    for attempt, (resumed, stop) in enumerate([(0, 7), (5, 6), (5, 12)]):
        given = ["--resumed-from", str(resumed), "--stop-at", str(stop), "--attempt", str(attempt)]
        loop(*given, "--steps", "12", "--every", "1", "--wandb", "offline")
    env = {**os.environ, "WANDB_BASE_URL": wandb_server.url, "WANDB_API_KEY": KEY, "HOME": str(tmp_path)}
    for folder in sorted((run / "wandb").glob("offline-run-*")):
        sync = [sys.executable, "-m", "wandb", "sync", str(folder)]  # it leaves a log where it is called
        subprocess.run(sync, env=env, cwd=tmp_path, capture_output=True, check=True)
    [(name, rows)] = wandb_server.history.items()
    assert name == run_id(run)
    assert [(row["_step"], row["tokens"]) for row in rows] == [(step, step * 8192) for step in range(1, 13)]


def test_a_refused_key_falls_back_to_offline(run, loop, wandb_server):
    wandb_server.refuse = True
    done = loop("--steps", "12", "--wandb", "auto", url=wandb_server.url)
    assert [row["_step"] for row in offline_history(run)] == [1, 10, 12]
    assert len(done.stderr.splitlines()) == 1
    assert "401" in done.stderr
    assert not files_with(KEY, run)


def test_a_server_that_dies_midway_does_not_hang_the_exit(run, loop, wandb_server):
    """What it did not take is on disk, and can be read there."""
    wandb_server.last_words = True
    words = ["--steps", "50", "--seconds", "0.05", "--wandb", "auto", "--finish-seconds", "1"]
    done = loop(*words, url=wandb_server.url)
    assert wandb_server.history
    assert "finish took" in done.stdout
    assert "the data is safe on disk" in done.stderr
    folder = next((run / "wandb").glob("run-*"))
    assert f"wandb sync {folder}" in done.stdout
    shutil.move(folder, folder.with_name(f"offline-{folder.name}"))
    assert [row["_step"] for row in offline_history(run)] == [1, 10, 20, 30, 40, 50]


@pytest.mark.slow
def test_a_server_that_hangs_from_the_start_costs_no_record(run, loop, wandb_server):
    """It answers the first question and nothing after: the run does not wait, and goes offline."""
    wandb_server.hang.set()
    done = loop("--steps", "30", "--wandb", "auto", "--server-seconds", "15", url=wandb_server.url)
    assert [row["_step"] for row in offline_history(run)] == [1, 10, 20, 30]
    assert "logging offline" in done.stderr


@pytest.mark.slow
def test_an_outage_that_passes_costs_no_record(run, loop, wandb_server):
    import threading

    def outage() -> None:
        while not wandb_server.history:
            time.sleep(0.02)
        wandb_server.hang.set()
        time.sleep(5)
        wandb_server.hang.clear()

    thread = threading.Thread(target=outage, daemon=True)
    thread.start()
    done = loop("--steps", "50", "--seconds", "0.2", "--every", "5", "--wandb", "auto", url=wandb_server.url)
    [rows] = wandb_server.history.values()
    assert [row["_step"] for row in rows] == [1, *range(5, 51, 5)]
    assert done.stderr == ""


def test_a_killed_run_leaves_its_rows_on_disk(run, tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    arguments = [str(run), "--steps", "5000", "--seconds", "0.02", "--every", "1", "--wandb", "offline"]
    process = subprocess.Popen([sys.executable, str(LOOP), *arguments], env=env, stdout=subprocess.DEVNULL)
    while process.poll() is None:  # the client writes blocks of 32 KiB, a row takes one or so
        if sum(file.stat().st_size for file in (run / "wandb").glob("offline-run-*/*.wandb")) > 100_000:
            break
        time.sleep(0.05)
    client = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(client, 60)  # it ends when it finds itself alone
    assert client and not alive
    rows = [row["_step"] for row in offline_history(run)]
    assert len(rows) > 20
    assert rows == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("mode", ["disabled", pytest.param("offline", marks=pytest.mark.slow)])
def test_the_users_own_wandb_mode_is_honoured_by_auto(run, loop, wandb_server, mode):
    loop("--steps", "2", "--wandb", "auto", url=wandb_server.url, WANDB_MODE=mode)
    assert wandb_server.log == []
    assert bool(offline_history(run)) == (mode == "offline")


def test_a_full_or_read_only_run_folder_stops_nothing(run, loop):
    (run / "wandb").write_text("a file where a folder should be")
    done = loop("--steps", "3", "--wandb", "offline")
    assert "finished after step 3" in done.stdout
    assert [line for line in done.stderr.splitlines() if "wandb" in line and "goes on without it" in line]


def test_what_a_shell_or_a_mounted_secret_leaves_in_the_environment(run, loop, wandb_server):
    done = loop("--steps", "3", "--wandb", "auto", url=wandb_server.url, key=KEY + "\n", WANDB_MODE="", WANDB_DIR=" ")
    assert done.stderr == ""
    assert [row["_step"] for row in wandb_server.history[run_id(run)]] == [1, 3]
    assert not files_with(KEY, run)


@pytest.mark.parametrize("key", ["sesame-open", pytest.param("sesame open " * 5, marks=pytest.mark.slow)])
def test_a_key_that_is_none_is_not_repeated(run, loop, wandb_server, key):
    done = loop("--steps", "3", "--wandb", "auto", url=wandb_server.url, key=key)
    assert "API key" in done.stderr
    assert "sesame" not in done.stdout + done.stderr
    assert not files_with("sesame", run)
    assert "finished after step 3" in done.stdout


def test_a_killed_client_is_told_in_one_line(run, tmp_path):
    """A batch system's SIGTERM reaches every process of a job, the client's own too; the exit stays clean."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    arguments = [str(run), "--steps", "100", "--seconds", "0.04", "--every", "1", "--wandb", "offline"]
    command = [sys.executable, str(LOOP), *arguments]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    client: list[psutil.Process] = []
    while not client and process.poll() is None:
        client = [child for child in psutil.Process(process.pid).children() if "wandb" in child.name()]
        time.sleep(0.02)
    while not list((run / "wandb").glob("offline-run-*/*.wandb")) and process.poll() is None:
        time.sleep(0.02)
    client[0].terminate()
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "finished after step 100 of 100" in stdout
    assert len(stderr.splitlines()) == 1
    assert "the run goes on without it" in stderr


def test_names_and_units(make_step, make_evaluation):
    metrics = step_metrics(make_step(2, mfu=0.5, joules={"gpu": 3.6e6, "cpu": None}, sums={"z_loss": 0.25}))
    assert metrics["train/loss"] == 4.0
    assert metrics["perf/mfu"] == 0.5
    assert metrics["energy/gpu_kwh"] == 1.0
    assert "energy/cpu_kwh" not in metrics
    assert metrics["train/z_loss"] == 0.25
    assert metrics["time/data_seconds"] == 0.1
    assert metrics["time/step_seconds"] == 0.5
    assert "perf/mfu" not in step_metrics(make_step(2))
    assert evaluation_metrics(make_evaluation(2))["val/bits_per_byte"] == 2.25


def test_costs_are_axes(make_step):
    site = {"name": "hall", "pue": 1.5, "gco2e_per_kwh": 400.0, "intensity_year": 2023, "intensity_source": "test"}
    joules = {"gpu": 3.6e6, "cpu": 3.6e6, "dram": None}
    hall, nowhere = Config.model_validate({"site": site}), Config()
    costs = cost_metrics(make_step(2, price=price_of(hall, joules)), hall)
    assert costs == pytest.approx({"kwh": 3.0, "energy/kwh": 3.0, "gco2e": 1200.0, "carbon/gco2e": 1200.0})
    unpriced = make_step(2, price=price_of(nowhere, joules))
    assert cost_metrics(unpriced, nowhere) == {"kwh": 2.0, "energy/kwh": 2.0}  # an unknown grid has no axis
    unread = price_of(hall, {"gpu": None})
    assert set(unread.values()) == {None}
    assert cost_metrics(make_step(2, price=unread), hall) == cost_metrics(make_step(2), hall) == {}
    rented = Config.model_validate({"site": {"price_per_kwh": 0.5, "currency": "EUR", "price_date": "2026-11"}})
    assert cost_metrics(make_step(2, price=price_of(rented, joules)), rented)["cost/EUR"] == pytest.approx(1.0)


def test_the_id_stays_with_the_folder_and_not_with_its_name(tmp_path):
    first, second = tmp_path / "a" / "run", tmp_path / "b" / "run"
    first.mkdir(parents=True)
    second.mkdir(parents=True)
    assert run_id(first) == run_id(first)
    assert run_id(first) != run_id(second)
    moved = first.rename(tmp_path / "moved")
    kept = run_id(moved)
    assert kept == run_id(moved)
    assert len(kept) >= 8
