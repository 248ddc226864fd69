"""A published run is trained again to the bit; another run's losses are not taken for its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.publish import publish
from trainer.publish.manifest import RAW
from trainer.publish.rerun import rerun


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
