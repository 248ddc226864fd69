"""A sweep trains every run once, whatever happens to it, and ends in the same table."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from pathlib import Path

import pytest

from trainer.folder import RunFolder

SAME = ("run", "status", "parameters", "tokens", "flop", "loss", "bits_per_byte")  # time and energy are not


def table(folder: Path) -> list[tuple[str, ...]]:
    with open(folder / "runs" / "cpu" / "sweep.csv") as file:
        return [tuple(row[name] for name in SAME) for row in csv.DictReader(file)]


def starts(folder: Path) -> dict[str, int]:
    """How often each run was begun or resumed."""
    return {run.name: RunFolder(run).attempts() for run in (folder / "runs" / "cpu").iterdir() if run.name[0] != "."}


@pytest.fixture(scope="module")
def undisturbed(grid, command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    result = command(folder)("sweep", *grid, "jobs=2")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 7  # a title and six runs
    return table(folder)


def test_all_finished_and_distinct(undisturbed):
    assert len(undisturbed) == 6 and {row[1] for row in undisturbed} == {"finished"}
    assert len({row[5] for row in undisturbed}) == 6


def test_killed_twice_it_ends_in_the_same_table(undisturbed, grid, isoflop):
    for number in (1, 4):
        isoflop.kill_when(lambda text, number=number: f"({number}/6)" in text, "sweep", *grid, "jobs=2", poll=0.02)
    result = isoflop("sweep", *grid, "jobs=2")
    assert result.returncode == 0, result.stderr
    assert "of 6 runs are finished already" in result.stderr
    assert table(isoflop.folder) == undisturbed
    before = starts(isoflop.folder)
    again = isoflop("sweep", *grid, "jobs=2")  # nothing is left to do
    assert again.returncode == 0 and "6 of 6 runs are finished already" in again.stderr
    assert table(isoflop.folder) == undisturbed and starts(isoflop.folder) == before


def test_a_signal_saves_what_runs_and_the_same_command_goes_on(undisturbed, grid, isoflop):
    words = isoflop.arguments("sweep", *grid)
    process = subprocess.Popen(words, cwd=isoflop.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "(2/6)" in line:
            break
    second = isoflop("sweep", *grid)  # two sweeps into one folder
    assert second.returncode == 2
    assert [line for line in second.stderr.splitlines() if line.startswith("isoflop: ")] == [
        line for line in second.stderr.splitlines() if "in use by process" in line and "run.experiment" in line
    ]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "the same command goes on" in errors
    assert isoflop("sweep", *grid).returncode == 0
    assert table(isoflop.folder) == undisturbed


def test_a_failed_run_is_tried_again_and_named(grid, isoflop):
    """A learning rate that overflows: the others finish, the failure is told with its reason and its log."""
    few = [word for word in grid if not word.startswith("ladder.flops")]
    result = isoflop("sweep", *few, "ladder.flops=[1e8]", "optim.lr=1e-3,1e30", "optim.clip=null", "retries=1")
    assert result.returncode == 1
    failed = [line for line in result.stderr.splitlines() if line.startswith("isoflop: ")]
    assert len(failed) == 3
    for line in failed:
        assert "lr1e+30" in line and "not finite" in line
        assert Path(line.rpartition("(")[2].rstrip(")")).is_file()
    assert result.stderr.count("trying again") == 3
    assert sorted(row[1] for row in table(isoflop.folder)) == ["failed"] * 3 + ["finished"] * 3


def test_another_science_in_the_folder_is_refused(grid, isoflop):
    few = [word for word in grid if not word.startswith("ladder.flops")] + ["ladder.flops=[1e8]"]
    assert isoflop("sweep", *few).returncode == 0
    before = starts(isoflop.folder)
    result = isoflop("sweep", *few, "optim.lr=1e-3")
    assert result.returncode == 2
    assert "optim.lr: 0.001 given" in result.stderr and "choose another run.experiment" in result.stderr
    assert starts(isoflop.folder) == before


def test_m_shares_the_machinery(isoflop, tiny):
    words = ["train", "-m", *tiny, "budget.steps=1", "seed=0,1", "--json"]
    first = isoflop(*words)
    assert first.returncode == 0, first.stderr
    rows = json.loads(first.stdout)
    assert [row["status"] for row in rows] == ["finished"] * 2 and rows[0]["loss"] != rows[1]["loss"]
    second = isoflop(*words)
    assert "2 of 2 runs are finished already" in second.stderr and json.loads(second.stdout) == rows
