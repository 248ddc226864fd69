"""A published run is trained again to the bit; another run's losses are not taken for its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from run_folders import make_run

from trainer.cli.main import main
from trainer.config import load
from trainer.publish import publish
from trainer.publish.lineage import line_of, moved
from trainer.publish.manifest import RAW
from trainer.publish.rerun import rerun
from trainer.utils.errors import UserError


def test_a_row_of_a_sweep_again(tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    short = [word for word in tiny if not word.startswith(("budget", "checkpoint.every"))]
    words = [
        *short,
        f"run.root={tmp_path / 'runs'}",
        "run.experiment=e",
        "budget.steps=4",
        "seed=1,2",
        "run.id=s${seed}",
    ]
    assert main(["train", "-m", *words]) == 0
    folder = tmp_path / "paper"
    manifest = publish(tmp_path / "runs", folder, {})
    shutil.rmtree(tmp_path / "runs")
    capfd.readouterr()
    assert main(["verify", str(folder), "rerun=e/s2", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["rerun"]
    assert found["differences"] == [] and found["steps"] == 4 and found["weights"] == 1

    records = (folder / RAW / "e" / "s1" / "metrics.jsonl").read_bytes()
    (folder / RAW / "e" / "s2" / "metrics.jsonl").write_bytes(records)
    other = rerun(folder, manifest, "s2", quiet=True)
    assert other.differences[0].startswith("step 1: loss ")


@pytest.mark.slow
def test_a_run_that_began_from_a_published_one_is_trained_after_it(
    tiny: list[str], tmp_path: Path, isoflop: Any
) -> None:
    """From a checkpoint in the middle, with its tokenizer; the publication lies elsewhere by then."""
    short = [word for word in tiny if not word.startswith(("budget", "checkpoint."))]
    runs = tmp_path / "runs"
    words = [*short, f"run.root={runs}", "run.experiment=e", "checkpoint.every_steps=1"]
    began = [f"init={runs / 'e' / 'first'}@1", f"tokenizer.path={runs / 'e' / 'first' / 'tokenizer.model'}", "seed=7"]
    for name, steps, more in (("first", 2, []), ("second", 3, began)):
        done = isoflop("train", *words, f"budget.steps={steps}", f"run.id={name}", *more)
        assert done.returncode == 0, done.stderr
    publish(runs, tmp_path / "paper", {})
    shutil.rmtree(runs)
    shutil.move(tmp_path / "paper", tmp_path / "moved")
    done = isoflop("verify", str(tmp_path / "moved"), "rerun=e/second", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["rerun"]
    assert found["differences"] == [] and (found["steps"], found["weights"]) == (3, 1)
    assert found["notes"] == ["e/first, from which it began: 2 steps were trained again too"]


def made(root: Path, name: str, settings: dict[str, Any], *, steps: int = 20) -> Path:
    return make_run(root, {"run": {"experiment": "e"}, **settings}, name=name, steps=steps)


def test_who_comes_before_whom(tmp_path: Path) -> None:
    first = made(tmp_path, "a", {})
    second = made(tmp_path, "b", {"init": {"run": "elsewhere/e/a", "step": 7}})
    task = {"kind": "sequence", "train": ["t.jsonl"], "labels": ["x", "y"], "parent": "/old/e/b"}
    third = made(tmp_path, "c", {"task": task})
    assert line_of(tmp_path, third) == [first, second, third]
    there = moved(load(second / "config.yaml"), {"e/a": tmp_path / "new"})
    assert (there.init.run, there.init.step) == (str(tmp_path / "new"), 7)


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        ({"run": "runs/e/gone", "step": 1}, r"\(init: e/gone\), which is not published here"),
        ({"run": "runs/e/imported", "step": 0}, "which was imported: its weights are not published"),
        ({"run": "runs/e/a", "step": 1, "average": "merged"}, "from its average 'merged', which no training makes"),
    ],
)
def test_what_no_training_gives_again_is_one_line(tmp_path: Path, parent: dict[str, Any], said: str) -> None:
    made(tmp_path, "a", {})
    made(tmp_path, "imported", {}, steps=0)
    with pytest.raises(UserError, match=said) as caught:
        line_of(tmp_path, made(tmp_path, "b", {"init": parent}))
    assert len(str(caught.value).splitlines()) == 1 and "began from another run's weights" in str(caught.value)
