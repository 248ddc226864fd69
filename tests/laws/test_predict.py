"""Larger runs of public tables, predicted without having been seen."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.laws.conftest import LawTable
from trainer.scaling.fit import read_table
from trainer.scaling.fit.advice import flop_rate
from trainer.scaling.fit.choice import choose
from trainer.scaling.fit.ensemble import ensemble_of
from trainer.scaling.fit.findings import which_forms
from trainer.scaling.fit.parametric import fit_law
from trainer.scaling.fit.resampling import resample
from trainer.scaling.fit.table import Table

pytestmark = pytest.mark.laws
REPLICATES = 40


class Held(NamedTuple):
    chosen: str
    error: np.ndarray  # log(predicted / measured)
    inside: np.ndarray  # bool: within the interval


def held(table: Table, out: np.ndarray) -> Held:
    """What `isoflop fit` makes of the other runs, asked for these (bool [runs])."""
    rest, larger = table.only(~out), table.only(out)
    forms, refused = which_forms(rest)
    choice = choose(rest, forms, refused)
    weights = resample(rest, REPLICATES)
    laws = {form: fit_law(rest, form, weights) for form in choice.weights()}
    ensemble = ensemble_of(rest, choice, laws, flop_rate(rest))
    figures = ensemble.interval({name: larger.column(name) for name in ensemble.variables()})
    loss = larger.column("loss")
    inside = [figure.low <= value <= figure.high for figure, value in zip(figures, loss, strict=True)]
    return Held(choice.chosen, np.log([figure.value for figure in figures] / loss), np.array(inside))


def table_of(path: Path, where: str = "") -> Table:
    return read_table(path, where=where)


def test_farseers_largest_runs_within_half_a_percent(law_table: LawTable) -> None:
    table = table_of(law_table("farseer-404"))
    flop = table.column("flop")
    found = held(table, flop > np.quantile(flop, 0.95))
    assert found.chosen == "farseer"
    assert np.abs(found.error).max() < 0.005 and np.abs(found.error).mean() < 0.0025
    assert found.inside.mean() >= 0.9


def test_olmos_largest_size_within_a_percent(law_table: LawTable) -> None:
    table = table_of(law_table("olmo-ladder-c4"))
    size = table.column("parameters")
    found = held(table, size == size.max())
    assert np.abs(found.error).mean() < 0.01
    assert found.inside.mean() >= 0.8


def test_far_over_trained_runs_are_within_their_intervals(law_table: LawTable) -> None:
    table = table_of(law_table("gadre-c4"))
    flop = table.column("flop")
    found = held(table, flop > np.quantile(flop, 0.8))
    assert np.abs(found.error).mean() < 0.03
    assert found.inside.mean() >= 0.85


def test_step_law_best_losses(law_table: LawTable) -> None:
    """One run a place, that of the best setting: the most expensive eighth of the places is held out."""
    table = table_of(law_table("lr-batch-2702"))
    flop = table.column("flop")
    found = held(table, flop > np.quantile(flop, 0.875))
    assert np.abs(found.error).mean() < 0.01
