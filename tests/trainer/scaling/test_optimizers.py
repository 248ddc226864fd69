"""The rates that scripts/results/optimizers takes from its sweeps."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "results" / "optimizers.py"))
best_rate, beyond, case, sizes = (SCRIPT[name] for name in ("best_rate", "beyond", "Case", "SIZES"))


def bowl(best: float, rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)) -> dict[float, float]:
    return {rate: 3 + 0.1 * math.log(rate / best) ** 2 for rate in rates}


def test_the_lowest_point_of_the_bowl_is_the_rate() -> None:
    assert best_rate(bowl(5e-3)) == pytest.approx(5e-3, rel=2e-3)
    assert beyond(bowl(5e-3)) is None


def test_a_best_rate_at_the_edge_asks_for_another() -> None:
    assert beyond(bowl(1e-4)) == 5e-4 and best_rate(bowl(1e-4)) == 1e-3
    assert beyond(bowl(1.0)) == 3.2e-2


def test_what_diverged_is_no_side_of_the_bowl() -> None:
    losses = bowl(4e-3) | {8e-3: math.inf, 1.6e-2: math.inf}
    assert best_rate(losses) == 4e-3 and beyond(losses) is None
    assert beyond(dict.fromkeys(losses, math.inf)) == 5e-4


def test_runs_of_all_optimizers_share_place_and_seed() -> None:
    names = list(SCRIPT["OPTIMIZERS"])
    runs = {name: case(name, "w32", 1e-3, 1, False).planned(0.01, ["run.root=here"]) for name in names}
    assert len({run.folder.path for run in runs.values()}) == len(names) == 5
    shapes = {(run.config.model.width, run.config.budget.flop, run.config.seed) for run in runs.values()}
    assert shapes == {(32, round(0.01 * sizes["w32"][1]), 1)}
    assert {run.config.optim.name for run in runs.values()} == set(names)
