"""A sweep trains every run once, whatever happens to it, and ends in the same table."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from trainer.run_folder import RunFolder
from trainer.scaling.ladder import planned_runs
from trainer.scaling.sweep import run_all, train_all
from trainer.utils.errors import UserError

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
    process.send_signal(signal.SIGSTOP)  # or it may be done before the second one has started
    second = isoflop("sweep", *grid)  # two sweeps into one folder
    assert second.returncode == 2
    assert [line for line in second.stderr.splitlines() if line.startswith("isoflop: ")] == [
        line for line in second.stderr.splitlines() if "in use by process" in line and "run.experiment" in line
    ]
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "stopped before the end; go on with: cd " in errors
    assert isoflop("sweep", *grid).returncode == 0
    assert table(isoflop.folder) == undisturbed


def test_a_diverged_run_is_named_and_not_repeated(grid, isoflop):
    """A learning rate that overflows: the others finish, the failure is told with its reason and its log."""
    few = [word for word in grid if not word.startswith("ladder.flops")]
    result = isoflop("sweep", *few, "ladder.flops=[1e8]", "optim.lr=1e-3,1e30", "optim.clip=null", "jobs=2")
    assert result.returncode == 1
    failed = [line for line in result.stderr.splitlines() if line.startswith("isoflop: ")]
    assert len(failed) == 3 and "trying again" not in result.stderr
    for line in failed:
        assert "lr1e+30" in line and Path(line.rpartition("(")[2].rstrip(")")).is_file()
    assert sorted(row[1] for row in table(isoflop.folder)) == ["finished"] * 3 + ["halted"] * 3


def test_what_fails_is_tried_again_what_is_wrong_is_not(tmp_path, capfd):
    def start(words):
        (run,) = (word.partition("=")[2] for word in words if word.startswith("run.id="))
        with open(tmp_path / run, "a") as tries:
            tries.write("x")
        count = len((tmp_path / run).read_text())
        if "seed1" in run and count < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if "seed2" in run:
            raise UserError("optim.lr: too hot")
        if "seed3" in run:
            raise RuntimeError("no such luck")
        return 0

    runs = planned_runs(["seed=0,1,2,3", f"run.root={tmp_path}", "run.experiment=e"])
    failures, stopped = run_all(runs, start, jobs=3, retries=2)
    tried = [len((tmp_path / run.name).read_text()) for run in runs]
    assert tried == [1, 2, 1, 3] and not stopped
    said = {failure.run.name: failure.text for failure in failures}
    assert "optim.lr: too hot" in said[runs[2].name] and "RuntimeError: no such luck" in said[runs[3].name]
    assert "killed by signal 9; trying again" in capfd.readouterr().err


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


def test_without_slurm_no_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    runs = planned_runs(["seed=0,1", f"run.root={tmp_path}", "run.experiment=e", "launch=slurm", "budget.steps=1"])
    with pytest.raises(UserError, match="there is no sbatch on the path"):
        train_all(runs)
    assert not list(tmp_path.iterdir())
