"""What a tracker's own library reads back is what metrics.jsonl says, also after kill -9 and a resume.

The loop is killed once every tracker has logged some of its steps, and goes on from a checkpoint before that.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.trackers.conftest import LOOP, ROOT
from tests.trainer.trackers.test_wandb import offline_history
from trainer.trackers import read_metrics
from trainer.trackers.mlflow_store import quiet

TOTAL = 400
KEYS = {
    "tensorboard": True,
    "metrics_csv": True,
    "mlflow": True,
    "tags": ["a", "b"],
    "notes": "of a test",
    "group": "g",
}
NAMES = {
    "train/loss": "loss",
    "optim/lr": "lr",
    "tokens": "tokens",
    "flop": "flop",
    "time/wall_seconds": "wall_seconds",
}


def arguments(run: Path, uri: str, *more: str) -> tuple[list[str], dict[str, str]]:
    keys = json.dumps({**KEYS, "mlflow_uri": uri})
    words = [sys.executable, str(LOOP), str(run), "--every", "1", "--tracker", keys, "--wandb", "offline", *more]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "MLFLOW"))}
    return words, env | {"PYTHONPATH": str(ROOT), "HOME": str(run.parent)}


def of_step(records: list[dict[str, Any]], kind: str = "step") -> dict[int, dict[str, Any]]:
    found = {one["step"]: one for one in records if one["kind"] == kind}
    assert len(found) == sum(one["kind"] == kind for one in records)
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run folder, and the last step before which nothing was repeated."""
    run = tmp_path_factory.mktemp("killed") / "run-1"
    run.mkdir()
    uri = str(run.parent / "store")
    words, env = arguments(run, uri, "--steps", str(TOTAL), "--seconds", "0.05")
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 300
    while not any(len(file.read_text().splitlines()) > 3 for file in Path(uri).glob("*/*/metrics/train/loss")):
        assert process.poll() is None and time.monotonic() < deadline, process.stdout and process.stdout.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    newest = max(of_step(read_metrics(run)))
    words, env = arguments(
        run,
        uri,
        "--resumed-from",
        str(newest - 5),
        "--attempt",
        "1",
        "--steps",
        str(newest + 6),
        "--finish-seconds",
        "60",
    )
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    return run, newest


def test_csv(killed: tuple[Path, int]) -> None:
    records = read_metrics(killed[0])
    for kind, name in (("step", "metrics.csv"), ("evaluation", "evaluations.csv")):
        with (killed[0] / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        stand = of_step(records, kind)
        assert [int(row["step"]) for row in rows] == list(stand)
        for row in rows:
            record = stand[int(row["step"])]
            assert float(row["loss"]) == record["loss"]
            for key, cell in row.items():
                value: Any = record
                for part in key.split("."):
                    value = value.get(part)
                assert (None if cell == "" else cell if isinstance(value, str) else json.loads(cell)) == value


def test_tensorboard(killed: tuple[Path, int]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = killed
    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    steps, evaluations = of_step(read_metrics(run)), of_step(read_metrics(run), "evaluation")
    for tag, key in NAMES.items():
        if tag == "tokens":  # evaluations have their place on this axis too
            continue
        stands = {step: np.float32(one[key]) for step, one in steps.items()}
        if key == "flop":
            stands = {step: value for step, value in stands.items() if step not in evaluations}
            read = {one.step: np.float32(one.value) for one in found.Scalars(tag) if one.step not in evaluations}
        else:
            read = {one.step: np.float32(one.value) for one in found.Scalars(tag)}
            assert len(found.Scalars(tag)) == len(read)
        assert read == stands
    assert {one.step: one.value for one in found.Scalars("val/loss")} == {step: 4.0 for step in evaluations}
    [text] = [one.tensor_proto.string_val[0].decode() for one in found.Tensors("run")]
    assert "- tags: a, b" in text and "- notes: of a test" in text and "- group: g" in text


def test_mlflow(killed: tuple[Path, int]) -> None:
    run, newest = killed
    quiet()
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert is_telemetry_disabled()
    check_store(run, str(run.parent / "store"), newest)


def check_store(run: Path, uri: str, newest: int) -> None:
    """One run, every step once, each as one of the attempts recorded it: MLflow takes nothing back."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("isoflop")
    [found] = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == run.name
    assert (found.data.tags["tags"], found.data.tags["group"]) == ("a,b", "g")
    assert found.data.tags["mlflow.note.content"] == "of a test"
    assert found.data.params["budget.steps"] == str(TOTAL) and len(found.data.params["science_hash"]) == 12
    everything = [one for one in read_metrics(run, superseded=True) if one["kind"] == "step"]
    for name, key in NAMES.items():
        history = client.get_metric_history(found.info.run_id, name)
        read = {one.step: one.value for one in history}
        recorded = {(one["step"], one[key]) for one in everything}
        assert set(read.items()) <= recorded and list(sorted(read)) == list(range(1, newest + 7))
        if key in ("loss", "lr"):
            assert len(history) == len(read)


def test_wandb(killed: tuple[Path, int]) -> None:
    run, newest = killed
    rows = offline_history(run)
    assert [row["_step"] for row in rows] == list(range(1, newest + 7))
    recorded = {(one["step"], one["loss"]) for one in read_metrics(run, superseded=True) if one["kind"] == "step"}
    assert {(row["_step"], row["train/loss"]) for row in rows} <= recorded


@pytest.mark.slow
def test_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run-1"
    run.mkdir()
    uri = f"sqlite:///{tmp_path / 'store.db'}"
    for words in (["--stop-at", "12"], ["--resumed-from", "9", "--attempt", "1"]):
        command, env = arguments(run, uri, "--steps", "18", "--finish-seconds", "60", *words)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0 and done.stderr == ""
    quiet()
    monkeypatch.setattr(sys.modules[__name__], "TOTAL", 50)
    check_store(run, uri, 12)
