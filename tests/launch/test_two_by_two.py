"""Two nodes of two ranks each, under torchrun's agents and under a real SLURM: the curve of one process, whatever is
shared among the four."""

from __future__ import annotations

from typing import Any

import pytest

from tests.launch.test_lost_nodes import STEPS, Pasted
from tests.launch.test_slurm import Runs
from tests.trainer.training.faults.history import losses

# How the work is divided over 2 x 2 ranks: one entry a layout, added to the run's words.
LAYOUTS = {
    "states": ["engine.zero_stage=3"],
    "partition": ["engine.zero_stage=3", "engine.partition=node", "engine.micro_batch=1"],
}
TWO = ["launch.processes=2", "launch.preflight=false"]


@pytest.fixture(scope="module")
def alone(command: Any, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of one process."""
    folder = tmp_path_factory.mktemp("alone")
    done = command(folder)("train", *tiny, "run.experiment=one", "run.id=alone")
    assert done.returncode == 0, done.stderr
    found = losses(folder / "runs" / "one" / "alone")
    assert sorted(found) == list(range(1, STEPS + 1))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torchrun(layout: str, isoflop: Any, tiny: list[str], alone: dict[int, float]) -> None:
    nodes = Pasted(isoflop, [*tiny, *TWO, *LAYOUTS[layout]], [])
    try:
        first, second = nodes.start(0), nodes.start(1)
        assert (first.wait(300), second.wait(300)) == (0, 0), nodes.output(0) + nodes.output(1)
    finally:
        nodes.stop()
    assert losses(nodes.run) == pytest.approx(alone, rel=1e-5)


@pytest.mark.slurm
@pytest.mark.parametrize("layout", LAYOUTS)
def test_slurm(layout: str, isoflop: Any, slurm: Any, tiny: list[str], alone: dict[int, float]) -> None:
    runs = Runs(isoflop, slurm, tiny)
    job = runs.launch(layout, *TWO, *LAYOUTS[layout])
    runs.wait_until_done(layout, job, "COMPLETED")
    assert runs.losses(layout) == pytest.approx(alone, rel=1e-5)
