"""Roots of hand-written run folders, and what is published of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "report"), str(HERE.parent / "scaling")]

from finished_runs import trained  # noqa: E402


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two settings of one experiment, the first with two seeds, and a run that stopped after 7 of 20 steps; each run's
    counter says 3.6 MJ, 1 kWh at a PUE of 1 and 400 g."""
    folder = tmp_path_factory.mktemp("published") / "runs"
    first = trained(folder, 32, 4, 3.0, name="a0", seed=0)
    trained(folder, 32, 4, 3.1, name="a1", seed=1)
    trained(folder, 64, 4, 2.5, name="b0", run={"experiment": first.parent.name})
    trained(folder, 32, 4, 4.0, name="killed", seed=2, steps=7)
    (first / "task.json").write_text(json.dumps({"metrics": {"f1": 0.5}}))
    grid = {"title": "100% & more", "command": "isoflop grid grid=cpu_x", "grid": {"tasks": {"t_1": {"score": "f1"}}}}
    row = {"objective": "causal", "size": None, "parameters": 12345, "costs": {"flop": 1e12, "kwh": None}}
    grid["rows"] = [row | {"scores": {"t_1": {"values": [0.5], "mean": 0.5, "half_width": None, "best": True}}}]
    (first.parent / "grid.json").write_text(json.dumps(grid))
    return folder


@pytest.fixture(scope="session")
def published(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from trainer.publish import publish

    folder = tmp_path_factory.mktemp("to") / "paper"
    publish(root, folder, {"name": "Ours & theirs", "authors": ["A. One", "B_Two"]})
    return folder
