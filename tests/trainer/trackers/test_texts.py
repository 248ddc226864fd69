"""Text samples, alerts and histograms: which trackers have them, read back by their own libraries."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trainer.trackers import make_trackers, read_samples
from trainer.trackers.metrics_csv import Table
from trainer.trackers.records import Event, TextSample

UPDATES = {name: {"ratio": ratio, "update": 1.0} for name, ratio in {"a": 0.5, "b": 0.25, "c": 0.25}.items()}


def sample(step: int, text: str = "and so on") -> list[TextSample]:
    return [TextSample(step, 100 * step, "Once", text), TextSample(step, 100 * step, "Zwei\nZeilen", f"{text} ü")]


def write(context: Any, make_step: Any, steps: range) -> None:
    trackers = make_trackers(context.config, context.run, rank=0, resumed_from=context.resumed_from)
    trackers.start(context)
    for step in steps:
        trackers.step(make_step(step, updates=UPDATES if step % 2 == 0 else {}))
        if step % 2 == 0:
            trackers.samples(sample(step))
        if step == 3:
            trackers.event(Event("spike", time.time(), step, "loss 9 is a spike"))
    trackers.event(Event("finished", time.time(), step, "finished"))
    trackers.finish("finished", {})


def test_tensorboard(make_context: Any, make_step: Any, tmp_path: Path, capsys: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    keys = {"tensorboard": True, "every_steps": 100, "alerts": ["spike"], "console": "none"}
    write(make_context(tracker=keys), make_step, range(1, 6))
    found = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"tensors": 0, "histograms": 0}).Reload()
    texts = {tag: [(one.step, one.tensor_proto.string_val[0].decode()) for one in found.Tensors(tag)]
             for tag in found.Tags()["tensors"]}  # fmt: skip
    assert [step for step, _ in texts["text_samples/0"]] == [2, 4]
    assert texts["text_samples/1"][0][1] == "    Zwei\n    Zeilen\n\n    and so on ü"
    assert texts["alerts/spike"] == [(3, "step 3: loss 9 is a spike")] and "alerts/end" not in texts
    assert "science_hash" in texts["run"][0][1] and "    seed: 0" in texts["config"][0][1]
    [first, second] = found.Histograms("updates/ratio")
    assert (first.step, second.step) == (2, 4)
    value = first.histogram_value
    assert (value.num, value.min, value.max, value.sum) == (3, 0.25, 0.5, 1.0)
    assert (list(value.bucket_limit), list(value.bucket)) == ([0.25, 0.5], [2, 1])
    assert [one.step for one in found.Scalars("train/loss")] == [1, 2, 4]  # measured steps are logged beside the first
    assert capsys.readouterr().err == ""


def test_wandb(make_context: Any, make_step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"wandb": "offline", "every_steps": 100, "alerts": ["spike", "end"], "console": "none"}
    keys |= {"tags": ["a", "b"], "job_type": "pretrain", "group": "g", "notes": "some words"}
    write(make_context(tracker=keys), make_step, range(1, 5))
    [folder] = (tmp_path / "wandb").glob("offline-run-*")
    tool = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=300, check=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    rows = {row["_step"]: row for row in (one["history"]["item"] for one in records if one["type"] == "history")}
    assert rows[2]["text_samples._type"] == "table-file" and rows[2]["samples"] == 8  # the axis of sequences
    assert (rows[2]["updates/ratio._type"], sum(rows[2]["updates/ratio.values"])) == ("histogram", 3)
    table = json.loads((folder / "files" / rows[2]["text_samples.path"]).read_text())
    assert table["columns"] == ["step", "tokens_seen", "prompt", "text"]
    assert table["data"][1] == [2, 200, "Zwei\nZeilen", "and so on ü"]
    assert [one["alert"]["title"].rpartition(": ")[2] for one in records if one["type"] == "alert"] == [
        "spike",
        "finished",
    ]
    [run] = [one["run"] for one in records if one["type"] == "run"][:1]
    assert (run["tags"], run["run_group"], run["job_type"], run["notes"]) == (["a", "b"], "g", "pretrain", "some words")


def test_samples_of_a_resume_supersede_those_before(make_context: Any, make_step: Any, tmp_path: Path) -> None:
    trackers = make_trackers(make_context(tracker={"console": "none"}).config, tmp_path, rank=0)
    for step, text in ((2, "old"), (4, "old"), (6, "old"), (4, "new")):
        trackers.samples(sample(step, text))
    assert [(one["step"], one["text"]) for one in read_samples(tmp_path)][::2] == [(2, "old"), (4, "new")]
    assert list(read_samples(tmp_path)[0]) == ["step", "tokens_seen", "prompt", "text"]


def test_other_ranks_import_nothing(make_context: Any) -> None:
    program = """
import sys
from pathlib import Path
from trainer.config import Config
from trainer.trackers import check, make_trackers
config = Config.model_validate({"tracker": {"tensorboard": True, "mlflow": True, "metrics_csv": True, "wandb": "auto"}})
check(config)
make_trackers(config, Path("nowhere"), rank=1).start(None)
print([name for name in ("tensorboard", "mlflow", "wandb", "torch", "numpy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_fault_of_a_library_is_one_line(make_context: Any, make_step: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "tensorboard").write_text("no folder")
    write(make_context(tracker={"tensorboard": True, "console": "none"}), make_step, range(1, 4))
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("isoflop: tensorboard: FileExistsError") and line.endswith("; the run goes on without it")


def test_a_table_gets_columns_and_loses_torn_rows(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.csv")
    table.append({"step": 1, "loss": 0.1 + 0.2, "seconds": {"data": 1.5}})
    table.append({"step": 2, "loss": float("nan"), "seconds": {"data": 2.5, "check, point": 3.0}})
    with open(table.path, "a") as file:
        file.write("3,0.25,2")  # the process was killed
    again = Table(table.path)
    again.append({"step": 3, "loss": None, "of": [1, 2]})
    assert table.path.read_text().splitlines() == [
        'step,loss,seconds.data,"seconds.check, point",of',
        "1,0.30000000000000004,1.5,,",
        "2,,2.5,3.0,",
        '3,,,,"[1, 2]"',
    ]
    again.append({"step": 2, "loss": 0.5})
    assert [line.split(",")[0] for line in table.path.read_text().splitlines()] == ["step", "1", "2"]
