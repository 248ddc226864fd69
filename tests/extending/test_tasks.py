"""A new kind of task by its two files: files/trainer/{descriptions/tasks,tasks}/regression.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.descriptions.tasks import TASKS

RUN = [
    *(
        "data=text",
        "tokenizer.vocabulary=300",
        "tokenizer.sentinels=10",
        "data.sequence_length=32",
        "data.held_out=0.2",
        "optim.batch_size=8",
    ),
    *("model.depth=1", "model.width=16", "model.heads=2", "engine.device=cpu", "engine.precision=fp32"),
    *("tracker.console=none", "tracker.wandb=disabled", "evaluation.every_steps=null", "engine.threads=1"),
]


@pytest.fixture
def parent(isoflop: Any, tmp_path: Path) -> Path:
    """A run of two steps over a text of numbers."""
    text = tmp_path / "text"
    text.mkdir()
    for number in range(12):
        (text / f"{number}.txt").write_text("\n".join(f"line {number * k} of {k}" for k in range(60)))
    made = isoflop("train", *RUN, f"data.path={text}", "budget.steps=2", "run.id=parent", "run.experiment=made")
    assert made.returncode == 0, made.stderr
    return tmp_path / "runs/made/parent"


def test_it_is_tuned_and_scored(isoflop: Any, parent: Path, tmp_path: Path) -> None:
    lines = [{"text": "long " * (1 + n % 9), "words": 1 + n % 9} for n in range(45)]
    records = tmp_path / "records.jsonl"
    records.write_text("\n".join(map(json.dumps, lines)))
    task = ["task.kind=regression", "task.name=words", "task.answer=words", f"task.train={records}"]
    words = ["finetune", str(parent), *task, f"task.held_out={records}", "task.linear_from=2.0", "optim.lr=2e-2"]
    told = isoflop(*words, "task.beta=0.3", "budget.steps=2")
    assert told.returncode == 2 and told.stderr.splitlines()[-1] == (
        "isoflop: task.beta: kind=regression does not read it; preference does"
    )
    tuned = isoflop(*words, "budget.steps=60", "--json")
    assert tuned.returncode == 0, tuned.stderr
    found = json.loads(tuned.stdout)
    assert found["kind"] == "regression" and found["records"] == 45
    assert found["metrics"]["absolute_error"] < 0.5 * found["baselines"]["the mean"]["absolute_error"]
    records.write_text(json.dumps({"text": "a", "words": "many"}) + "\n")
    told = isoflop(*words, "budget.steps=2")
    assert told.returncode == 2 and f"{records}:1: words: 'many' found, a number wanted" in told.stderr


@pytest.mark.parametrize("name", TASKS)
def test_what_a_description_names_is_there(name: str) -> None:
    for part in ("implementation", "head", "scorer"):
        if getattr(TASKS[name], part) is not None:
            assert callable(TASKS.implementation(name, part))
