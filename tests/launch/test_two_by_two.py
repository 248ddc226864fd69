"""Two nodes of two ranks each, under torchrun's agents and under a real SLURM: the curve of one process, whatever is
shared among the four."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.launch.test_lost_nodes import EXPERTS, MIXTURE, STEPS, ULYSSES, Pasted
from tests.launch.test_slurm import Runs
from tests.trainer.training.faults.history import losses

RING = ["engine.sequence_kind=ring", "kernels.attention=reference"]
# How the work is divided over 2 x 2 ranks: one entry a layout, added to the run's words.
LAYOUTS = {
    "states": ["engine.zero_stage=3"],
    "partition": ["engine.zero_stage=3", "engine.partition=node", "engine.micro_batch=1"],
    "ulysses": ["engine.zero_stage=2", *ULYSSES],
    "ring": ["engine.zero_stage=3", "engine.sequence_parallel=2", *RING],
    "ring over nodes": ["engine.zero_stage=1", "engine.sequence_parallel=4", *RING],
    "experts": ["engine.zero_stage=1", *EXPERTS],
    "experts over nodes": ["engine.zero_stage=3", *MIXTURE, "engine.expert_parallel=4"],
}
TWO = ["launch.processes=2", "launch.preflight=false"]


@pytest.fixture(scope="module")
def alone(command: Any, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[int, float]]:
    """The losses of one process that trains the model of a layout."""
    folder = tmp_path_factory.mktemp("alone")

    @cache
    def of_model(*model: str) -> dict[int, float]:
        name = f"run.id=alone-{len(model)}"
        done = command(folder)("train", *tiny, *model, "run.experiment=one", name)
        assert done.returncode == 0, done.stderr
        found = losses(folder / "runs" / "one" / name.removeprefix("run.id="))
        assert sorted(found) == list(range(1, STEPS + 1))
        return found

    return lambda layout: of_model(*(word for word in LAYOUTS[layout] if word.startswith("model.")))


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torchrun(layout: str, isoflop: Any, tiny: list[str], alone: Any) -> None:
    nodes = Pasted(isoflop, [*tiny, *TWO, *LAYOUTS[layout]], [], least=2)
    crossing = "=4: more ranks than a host has (2), so that they talk over the network"
    assert (crossing in nodes.said) == ("over nodes" in layout)
    try:
        first, second = nodes.start(0), nodes.start(1)
        assert (first.wait(300), second.wait(300)) == (0, 0), nodes.output(0) + nodes.output(1)
    finally:
        nodes.stop()
    assert losses(nodes.run) == pytest.approx(alone(layout), rel=1e-5)


@pytest.mark.slurm
@pytest.mark.parametrize("layout", LAYOUTS)
def test_slurm(layout: str, isoflop: Any, slurm: Any, tiny: list[str], alone: Any) -> None:
    runs = Runs(isoflop, slurm, tiny)
    name = layout.replace(" ", "-")
    job = runs.launch(name, *TWO, *LAYOUTS[layout])
    runs.wait_until_done(name, job, "COMPLETED")
    assert runs.losses(name) == pytest.approx(alone(layout), rel=1e-5)
