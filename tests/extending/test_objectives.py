"""A new objective by its two files: a description, and the implementation of examples/plugin."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.extending.conftest import SHARED
from trainer.objectives import NO_TARGET, Window

OBJECTIVES = "trainer/descriptions/objectives"


def weights(run: Path) -> dict[str, bytes]:
    files = sorted((run / "checkpoints" / "step-00000004").glob("model*.safetensors"))
    return {name: tensor.tobytes() for file in files for name, tensor in load_file(file).items()}


def test_it_is_composed_and_planned(isoflop: Any) -> None:
    helped = isoflop("train", "--help").stdout
    assert "objective.reversed_share         1.0          share of the documents" in helped
    unread = isoflop("plan", "objective.reversed_share=0.5", "budget.steps=2")
    assert unread.returncode == 2
    assert unread.stderr == "isoflop: objective.reversed_share: objective=causal does not read it; reverse does\n"
    words = ["plan", "budget.steps=2", "--json"]
    planned = isoflop(*words, "objective.name=reverse", "objective.reversed_share=0.5")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["planned"]["flop"] == json.loads(isoflop(*words).stdout)["planned"]["flop"]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_documents_are_read_from_right_to_left(share: float) -> None:
    spec = importlib.util.spec_from_file_location("reverse", SHARED["trainer/objectives/reverse.py"])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    numbers, segments = np.arange(7)[None], np.array([[0, 0, 0, 1, 1, 1, 1]], np.int32)
    window = Window(10 + numbers, segments, numbers - 3 * segments, *(np.array([5]) for _ in range(3)), seed=0)
    batch = module.Reverse(6, layout="stream", share=share).apply(window)
    read = [12, 11, 10, 16, 15, 14, 13] if share else [10, 11, 12, 13, 14, 15, 16]
    assert batch["tokens"].tolist() == [read[:-1]]
    assert batch["targets"].tolist() == [[*read[1:3], NO_TARGET, *read[4:]]]


def test_it_is_trained_and_resumed_to_the_bit(isoflop: Any, tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "objective.name=reverse", "budget.steps=4", "checkpoint.every_steps=2", "run.id=whole"]
    trained = isoflop("train", *words, "--json")
    assert trained.returncode == 0, trained.stderr
    run = next((tmp_path / "runs").glob("*-reverse-text")) / "whole"
    whole = weights(run)
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    resumed = isoflop("train", f"resume={run}")
    assert resumed.returncode == 0 and "going on from step-00000002" in resumed.stdout, resumed.stderr
    assert weights(run) == whole
    measured = isoflop("eval", str(run), "--json")
    assert json.loads(measured.stdout)["measure"] == "likelihood of the text", measured.stderr


WRONG = {
    "a member is missing": (
        "    families =",
        "    other =",
        "reverse.Reverse lacks families: every objective states it",
    ),
    "the name is taken": (
        '"reverse"',
        '"causal"',
        "causal.Causal is the objective 'causal' already; choose another name",
    ),
    "a key is another objective's": ("reversed_share:", "rate:", "the key 'rate' is another one than that of"),
    "a key is the group's": ("reversed_share:", "name:", "the key 'name' is another key of the same group already"),
    "no Python": ("class Reverse", "class class", "reverse cannot be read: SyntaxError"),
}


@pytest.mark.parametrize(("right", "wrong", "line"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_its_description_is_one_line(
    right: str, wrong: str, line: str, isoflop: Any, project: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("__pycache__"))
    description = copy / OBJECTIVES / "reverse.py"
    description.write_text(description.read_text().replace(right, wrong, 1))
    told = isoflop("plan", project=copy)
    assert told.returncode == 2 and not told.stdout
    assert line in told.stderr and told.stderr.count("\n") == 1
