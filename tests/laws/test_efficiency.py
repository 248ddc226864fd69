"""Public runs against themselves with more tokens written down: the factor that was written is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainer.scaling.efficiency import efficiency, sides
from trainer.scaling.fit import read_table

pytestmark = pytest.mark.laws


def test_halves_of_farseers_grid_are_the_factor_that_is_written(law_table: Callable[[str], Path]) -> None:
    table = read_table(law_table("farseer-404"))
    order = np.random.default_rng(0).permutation(len(table.runs))[:160]
    first, second = (replace(table, runs=tuple(table.runs[at] for at in part)) for part in np.split(order, 2))
    dearer = replace(
        second, runs=tuple(replace(run, tokens=1.3 * run.tokens, flop=1.3 * run.flop) for run in second.runs)
    )
    found = efficiency(sides(("a", "b"), first, dearer), replicates=40)
    assert found.flop.low < 1.3 < found.flop.high < 1.3 * found.flop.low
    assert found.p is not None and found.p > 0.01
