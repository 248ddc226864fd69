"""What a kill took from a tracker is made up by the next attempt: read back by the trackers' own libraries."""

from __future__ import annotations

import csv
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.trackers.test_readers import arguments, of_step
from tests.trainer.trackers.test_wandb import offline_history
from trainer.trackers import make_trackers, read_metrics
from trainer.trackers.mlflow_store import quiet
from trainer.trackers.records import TextSample

ALL = {"tensorboard": True, "metrics_csv": True, "mlflow": True, "every_steps": 1, "console": "none"}


def attempt(context: Any, records: list[Any]) -> None:
    trackers = make_trackers(context.config, context.run, rank=0, resumed_from=context.resumed_from)
    trackers.start(context)
    for record in records:
        (trackers.step if hasattr(record, "lr") else trackers.evaluation)(record)
    trackers.finish("finished", {})


def scalars(run: Path, tag: str) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {one.step: one.value for one in found.Scalars(tag)}


def history(uri: Path, name: str) -> list[int]:
    quiet()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=str(uri))
    [found] = client.search_runs([client.get_experiment_by_name("isoflop").experiment_id])
    return [one.step for one in client.get_metric_history(found.info.run_id, name)]


def test_a_kill_between_a_step_and_its_evaluation_costs_neither(tmp_path: Path) -> None:
    """The process dies when every library has been told of step 20 and not of what was measured after it."""
    run, uri = tmp_path / "run-1", tmp_path / "store"
    run.mkdir()
    words, env = arguments(run, str(uri), "--steps", "50", "--die-at", "20")
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == -9
    assert {one["step"] for one in read_metrics(run) if one["kind"] == "evaluation"} == set()
    words, env = arguments(run, str(uri), "--steps", "24", "--resumed-from", "15", "--attempt", "1")
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    every = offline_history(run)
    rows = {row["_step"]: row for row in every}
    assert sorted(rows) == list(range(1, 25)) and len(every) == 24
    assert (rows[20]["val/loss"], rows[20]["tokens"], "val/loss" in rows[19]) == (4.0, 20 * 8192, False)
    assert rows[20]["train/loss"] == read_metrics(run)[19]["loss"]
    assert scalars(run, "val/loss") == {20: 4.0} and sorted(scalars(run, "train/loss")) == list(range(1, 25))
    assert history(uri, "val/loss") == [20] and history(uri, "train/loss") == list(range(1, 25))
    with open(run / "evaluations.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["20"]


def test_texts_that_a_kill_took_are_made_up(make_context: Any, make_step: Any, tmp_path: Path) -> None:
    """W&B is switched on at a resume: it gets every step, and every text at its own."""
    keys = {"every_steps": 2, "console": "none"}
    trackers = make_trackers(make_context(tracker=keys).config, tmp_path, rank=0)
    for step in range(1, 7):
        trackers.step(make_step(step))
        if step % 3 == 0:
            trackers.samples([TextSample(step, 100 * step, "Once", f"text {step}")])
    later = {**keys, "wandb": "offline", "samples": {"every_steps": 3}}
    attempt(make_context(tracker=later, resumed_from=6, attempt=1), [make_step(7)])
    rows = {row["_step"]: row for row in offline_history(tmp_path)}
    assert list(rows) == [1, 2, 3, 4, 6, 7]
    assert [step for step, row in rows.items() if "text_samples._type" in row] == [3, 6]
    assert "train/loss" in rows[6] and "train/loss" not in rows[3]  # of step 3 nobody asked for the loss


def test_a_tracker_that_is_switched_on_at_a_resume_has_the_whole_curve(
    make_context: Any, make_step: Any, make_evaluation: Any, tmp_path: Path
) -> None:
    """Also where lines of metrics.jsonl are damaged, or hold no number: they cost themselves."""
    first = [make_step(1), make_step(2, loss=math.nan), make_evaluation(2), make_step(3), make_step(4)]
    attempt(make_context(tracker={"console": "none"}), first)
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(
            b'{"kind":"step","step":5}\n{"kind":"evaluation","step":3}\n\xff\xfe\n{"kind":"step","step":"6"}\n{"kind":"st'
        )
    uri = str(tmp_path / "store")
    attempt(make_context(tracker={**ALL, "mlflow_uri": uri}, resumed_from=4, attempt=1), [make_step(5)])
    losses = scalars(tmp_path, "train/loss")
    assert list(losses) == [1, 2, 3, 4, 5] and math.isnan(losses.pop(2)) and losses[4] == 2.0
    assert scalars(tmp_path, "val/loss") == {2: 4.0}
    assert history(Path(uri), "train/loss") == [1, 3, 4, 5] and history(Path(uri), "optim/lr") == [1, 2, 3, 4, 5]
    assert history(Path(uri), "val/loss") == [2]
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = {int(row["step"]): row for row in csv.DictReader(file)}
    for step, record in of_step(read_metrics(tmp_path)).items():
        assert rows[step]["loss"] == ("" if record["loss"] is None else repr(record["loss"])), step


def test_what_a_later_attempt_superseded_is_not_taken_for_heard(
    make_context: Any, make_step: Any, make_evaluation: Any, tmp_path: Path
) -> None:
    """TensorBoard heard of 1 to 9, then of 4 and 5 again; of 6 and of its evaluation the second attempt told nobody."""
    keys = {"tensorboard": True, "every_steps": 1, "console": "none"}
    first = [make_step(step) for step in range(1, 9)]
    attempt(make_context(tracker=keys), [*first, make_evaluation(8), make_step(9)])
    again = [make_step(4, loss=40.0), make_step(5, loss=50.0)]
    attempt(make_context(tracker=keys, resumed_from=3, attempt=1), again)
    trackers = make_trackers(make_context(tracker={"console": "none"}).config, tmp_path, rank=0)
    trackers.step(make_step(6, loss=60.0))
    trackers.evaluation(make_evaluation(6, loss=6.5))
    attempt(make_context(tracker=keys, resumed_from=6, attempt=2), [make_step(7, loss=70.0)])
    assert scalars(tmp_path, "val/loss") == {6: 6.5}
    losses = {one["step"]: one["loss"] for one in read_metrics(tmp_path) if one["kind"] == "step"}
    assert scalars(tmp_path, "train/loss") == pytest.approx(losses) and list(losses) == list(range(1, 8))


def test_a_record_that_a_kill_cut_in_two_is_mended(make_context: Any, make_step: Any, tmp_path: Path) -> None:
    """A store of files takes one number after another: here the last record lacks the last of them."""
    uri = tmp_path / "store"
    keys = {"mlflow": True, "mlflow_uri": str(uri), "every_steps": 1, "console": "none"}
    attempt(make_context(tracker=keys), [make_step(1), make_step(2), make_step(3)])
    for name in ("optim/lr", "time/wall_seconds"):
        [file] = uri.glob(f"*/*/metrics/{name}")
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    attempt(make_context(tracker=keys, resumed_from=3, attempt=1), [make_step(4)])
    for name in ("optim/lr", "time/wall_seconds", "train/loss", "tokens"):
        assert history(uri, name) == [1, 2, 3, 4], name
    assert json.loads((tmp_path / "mlflow.json").read_text())["uri"] == str(uri)
