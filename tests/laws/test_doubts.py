"""What is known to be doubtful of the public tables is said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainer.scaling.fit import read_table
from trainer.scaling.fit.misfit import one_sign, outliers
from trainer.scaling.fit.parametric import fit_law
from trainer.scaling.fit.resampling import interval, resample

pytestmark = pytest.mark.laws
LawTable = Callable[[str], Path]


def test_chinchillas_five_highest_losses_are_named_first_and_decide_beta(law_table: LawTable) -> None:
    table = read_table(law_table("chinchilla-245"))
    [doubt], _ = outliers(fit_law(table, "chinchilla"), table)
    highest = np.argsort(-table.column("loss"))
    known = {table.runs[k].name for k in highest[:5]}
    assert {one["run"] for one in doubt.numbers["runs"][:5]} == known
    deciding = doubt.numbers["deciding"]
    assert deciding["runs"] == 5
    assert deciding["constants"]["beta"]["all"] == pytest.approx(0.453, abs=2e-3)
    assert deciding["constants"]["beta"]["without"] == pytest.approx(0.367, abs=2e-3)
    assert deciding["constants"]["alpha"]["without"] == pytest.approx(0.347, abs=2e-3)


def test_chinchillas_form_is_missed_in_waves_by_farseers_runs(law_table: LawTable) -> None:
    table = read_table(law_table("farseer-404"))
    [doubt] = one_sign(fit_law(table, "chinchilla"), table, np.zeros(len(table.runs), bool))
    assert doubt.numbers["p_signs"] < 1e-9


def test_the_floor_of_the_ladder_is_not_determined(law_table: LawTable) -> None:
    table = read_table(law_table("olmo-ladder-c4"))
    floor = fit_law(table, "chinchilla", resample(table, 60)).constants()[:, 0]
    figure = interval(floor[0], floor[1:])
    assert figure.value == pytest.approx(0.181, abs=2e-3)
    assert figure.high - figure.low > 0.4 * table.column("loss").min()
