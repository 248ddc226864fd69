"""Gradients that are thrown away leave no trace, and a reload in mid-run is a resume, at every ZeRO stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).with_name("engine_probe.py")
ROOT = PROBE.parents[4]
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("stage", "ranks"), [(0, 1), pytest.param(1, 2, marks=SLOW), pytest.param(2, 2, marks=SLOW), (3, 2)]
)  # stage 2 with offload
def test_discarded_gradients_leave_no_trace(stage: int, ranks: int, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    words = [sys.executable, *torchrun, str(PROBE), str(stage), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    line = next((line for line in done.stdout.splitlines() if line.startswith("[{")), None)
    assert line is not None, done.stderr
    for found in json.loads(line):
        assert [name for name, holds in found.items() if not holds] == []
