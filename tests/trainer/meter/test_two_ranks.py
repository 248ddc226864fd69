"""A run on two ranks: the processor time of all its processes is booked, by the system's own account of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.books.cost_records import cost_records
from trainer.books.energy import read_energy

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_time_of_all_processes_is_booked_once(tiny: list[str], tmp_path: Path) -> None:
    words = ["train", *tiny, "evaluation.every_steps=null", "run.experiment=e", "run.id=a", "launch.processes=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pid = subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ).pid
    _, status, used = os.wait4(pid, 0)  # of the process and of all below it that it waited for
    assert os.waitstatus_to_exitcode(status) == 0
    root = tmp_path / "runs"
    [record] = cost_records(root)
    booked = record.cpu_seconds + read_energy(root / "e" / "a").cpu_seconds
    assert record.run == "e/a" and record.outcome == "done"
    assert 0.95 <= booked / (used.ru_utime + used.ru_stime) <= 1.001
