"""A launcher that was added by its two files: planned, started, looked at, cancelled. PBS's programs are stand-ins."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

# qsub runs the job at once, and is done when it is; qstat says what the file `state` says.
PROGRAMS = {
    "qsub": 'bash "$1" >{folder}/job.out 2>&1; echo 7.head',
    "qstat": 'for job in "$@"; do echo "$job $(cat {folder}/state)"; done',
    "qdel": 'echo "$@" >{folder}/deleted',
}


@pytest.fixture
def pbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    for name, text in PROGRAMS.items():
        file = tmp_path / "bin" / name
        file.write_text(f"#!/bin/bash\n{text.format(folder=tmp_path)}\n")
        file.chmod(0o755)
    (tmp_path / "state").write_text("R")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def test_a_run_from_its_plan_to_its_end(isoflop: Any, tiny: list[str], pbs: Path) -> None:
    words = [*tiny, "launch.name=pbs", "launch.pbs=['-q gpu']", "budget.steps=2", "run.experiment=e", "run.id=r"]
    planned = isoflop("launch", *words, "--dry-run")
    assert planned.returncode == 0 and "#PBS -q gpu\n" in planned.stdout, planned.stderr
    assert not (pbs / "runs").exists()
    launched = isoflop("launch", *words)
    assert launched.returncode == 0, launched.stderr
    assert "submitted job 7.head" in launched.stdout
    run = pbs / "runs" / "e" / "r"
    assert (run / "launches" / "1" / "job.pbs").read_text() in planned.stdout
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert [one["step"] for one in records if one["kind"] == "step"] == [1, 2], (pbs / "job.out").read_text()

    def status() -> dict[str, Any]:
        (only,) = json.loads(isoflop("status", "--json").stdout)
        return {name: only[name] for name in ("state", "launcher", "jobs")}

    assert status() == {"state": "running", "launcher": "pbs", "jobs": ["7.head"]}
    assert isoflop("cancel", str(run)).returncode == 0
    assert (pbs / "deleted").read_text() == "7.head\n"
    (pbs / "state").write_text("C")
    assert status()["state"] == "finished"


def test_where_it_does_not_fit(isoflop: Any, tiny: list[str], pbs: Path) -> None:
    done = isoflop("launch", *tiny, "launch.name=pbs", "launch.nodes=2", "launch.partition=gpu")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "isoflop: launch.partition: launch=pbs does not read it; slurm does",
        "isoflop: launch.nodes: 2 given, and launch=pbs is one node",
    ]
    done = isoflop("train", *tiny, "launch.name=pbs")
    assert done.stderr.startswith("isoflop: launch=pbs: isoflop launch starts it")
