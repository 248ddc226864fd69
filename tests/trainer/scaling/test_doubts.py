"""Each doubt is raised where its cause was put into the table, and not where the law holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from trainer.scaling.fit.advice import Advice
from trainer.scaling.fit.approaches import Optima, Parabola, isoflop
from trainer.scaling.fit.doubts import Doubt, doubts
from trainer.scaling.fit.parametric import Law, fit_law
from trainer.scaling.fit.profile_bias import best_sizes, profile_bias
from trainer.scaling.fit.resampling import Interval, resample
from trainer.scaling.fit.table import Run, Table
from trainer.scaling.fit.trust_pictures import influence_of
from trainer.scaling.statistics import fisher_tail, student_tail

UNKNOWN = Interval(np.nan, np.nan, np.nan)
NONE = Optima(*[np.array([])] * 4, why="not tried")
FAST = 40  # replicates


@dataclass
class Approach:
    optima: Optima = NONE
    a: Interval = UNKNOWN
    parabolas: list[Parabola] = field(default_factory=list)

    @property
    def why(self) -> str:
        return self.optima.why


@dataclass
class HeldOut:
    form: str
    runs: int
    reach: float
    error: float
    bias: float


@dataclass
class Found:
    """What a fit found, of one law."""

    table: Table
    law: Law | None = None
    envelope: Approach = field(default_factory=Approach)
    isoflop: Approach = field(default_factory=Approach)
    held_out: Sequence[HeldOut] = ()
    advice: Sequence[Advice] = ()

    @property
    def laws(self) -> dict[str, Law]:
        return {self.law.form: self.law} if self.law else {}


def true_loss(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28


def grid(noise: float = 0.005, seeds: int = 1, seed: int = 0, sizes: int = 6) -> Table:
    """Sizes x tokens, as the law has it, with noise."""
    random = np.random.default_rng(seed)
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(5e7, 2e9, sizes), np.geomspace(1e9, 6e10, 6)))
    n, d = np.repeat(n, seeds), np.repeat(d, seeds)
    return table(n, d, true_loss(n, d) * np.exp(noise * random.standard_normal(len(n))))


def table(n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> Table:
    runs = [Run(f"r{k}", a, b, 6 * a * b, c) for k, (a, b, c) in enumerate(zip(n, d, loss, strict=True))]
    return Table(tuple(runs), "test", "6 N D")


def changed(made: Table, loss: np.ndarray) -> Table:
    return replace(made, runs=tuple(replace(run, loss=float(x)) for run, x in zip(made.runs, loss, strict=True)))


def fitted(made: Table, form: str = "chinchilla") -> Found:
    return Found(made, fit_law(made, form, resample(made, FAST)))


def only(found: list[Doubt], kind: str) -> Doubt:
    [doubt] = [doubt for doubt in found if doubt.kind == kind]
    return doubt


@pytest.mark.parametrize("seed", range(3))
def test_a_table_of_the_law_raises_none(seed: int) -> None:
    assert doubts(fitted(grid(seed=seed, seeds=2))) == []


def test_outliers_are_named_furthest_first_with_the_constants_without_them() -> None:
    made = grid()
    loss = made.column("loss")
    loss[[3, 20]] *= (1.15, 1.25)
    doubt = only(doubts(fitted(changed(made, loss))), "outliers")
    assert [one["run"] for one in doubt.numbers["runs"]] == ["r20", "r3"]
    assert doubt.numbers["runs"][0]["off"] == pytest.approx(np.log(1.25), abs=0.02)
    clean = fit_law(made.only(~np.isin(np.arange(len(loss)), [3, 20])), "chinchilla").constants()[0]
    assert doubt.numbers["constants"]["beta"]["without"] == pytest.approx(clean[4], rel=1e-2)
    assert "r20 +2" in doubt.text
    json.dumps(doubt.to_json())


def test_single_runs_that_move_a_constant_by_half_of_its_interval_are_named() -> None:
    """Runs of three near sizes and one far from them: little tells how the loss falls with size."""
    n, d = (axis.ravel() for axis in np.meshgrid([9.8e7, 1e8, 1.02e8], np.geomspace(1e9, 6e10, 8)))
    made = table(n, d, true_loss(n, d) * np.exp(0.004 * np.random.default_rng(0).standard_normal(len(n))))
    far = Run("far", 2e9, 1e10, 6 * 2e19, float(true_loss(np.array([2e9]), np.array([1e10]))[0]))
    found = fitted(replace(made, runs=(*made.runs, far)))
    doubt = only(doubts(found), "influence")
    assert found.law is not None
    for one in doubt.numbers["runs"]:
        column = found.law.constants()[:, found.law.model.constants.index(one["constant"])]
        low, high = np.percentile(column[1:], [2.5, 97.5])
        assert one["all"] == pytest.approx(column[0])
        assert abs(one["without"] - one["all"]) >= 0.5 * (max(high, one["all"]) - min(low, one["all"]))
        assert one["run"] in {run.name for run in found.table.runs}
    assert f"without {doubt.numbers['runs'][0]['run']} " in doubt.text


@pytest.mark.parametrize("form", ["chinchilla", "over-training"])
def test_the_picture_of_influence_names_the_constant_that_a_fit_without_the_run_moves(form: str) -> None:
    found = fitted(grid(noise=0.003), form)
    law = found.law
    assert law is not None
    strength, constant = influence_of(law, found.table)
    run = int(strength.argmax())
    without = fit_law(found.table.only(np.arange(len(strength)) != run), form).constants()[0]
    column = law.constants()[:, constant[run]]
    low, high = np.percentile(column[1:], [2.5, 97.5])
    assert law.model.constants[constant[run]] in ("E", "alpha", "beta", "eta", "a", "b")
    moved = abs(without[constant[run]] - column[0]) / (high - low)
    assert moved / 3 < strength[run] < 2 * moved  # one step towards it


def test_another_shape_is_a_lack_of_fit_and_misses_of_one_sign() -> None:
    made = grid(noise=0.003, seeds=2)
    log = np.log(made.column("parameters"))
    wave = 1 + 0.03 * np.cos(2 * np.pi * (log - log.min()) / np.ptp(log))
    found = doubts(fitted(changed(made, made.column("loss") * wave)))
    assert only(found, "lack_of_fit").numbers["p"] < 1e-6
    assert only(found, "lack_of_fit").numbers["seed_noise"] == pytest.approx(0.003, rel=0.3)
    assert only(found, "one_sign").numbers["along"] == "parameters"


def test_larger_runs_that_are_missed_to_one_side_are_told() -> None:
    found = fitted(grid())
    found.held_out = [HeldOut("chinchilla", 6, 2.0, 0.021, 0.0205), HeldOut("kaplan", 6, 2.0, 0.1, 0.1)]
    doubt = only(doubts(found), "held_out_one_sign")
    assert "predicts them +2% off" in doubt.text or "+2.1% off" in doubt.text
    found.held_out = [HeldOut("chinchilla", 6, 2.0, 0.004, 0.001)]
    assert doubts(found) == []


def test_constants_that_the_runs_do_not_tell_are_named() -> None:
    n, d = (axis.ravel() for axis in np.meshgrid([5e7, 7e7, 1e8], [1e9, 1.5e9, 2e9, 3e9]))
    made = table(n, d, true_loss(n, d) * np.exp(0.01 * np.random.default_rng(1).standard_normal(len(n))))
    names = {one.numbers.get("constant") for one in doubts(fitted(made)) if one.kind == "undetermined"}
    assert {"alpha", "beta"} & names


def test_approaches_that_exclude_each_other_stand_beside_each_other() -> None:
    found = fitted(grid())
    found.envelope = Approach(a=Interval(0.3, 0.28, 0.32))
    found.isoflop = Approach(a=Interval(0.46, 0.44, 0.48))
    doubt = only(doubts(found), "contradiction")
    assert doubt.text.startswith(
        "approaches exclude each other: approach 1 a 0.300 (0.280 to 0.320), approach 2 a 0.460"
    )


def profiles(below: float, above: float, jitter: float = 0.0) -> Table:
    """IsoFLOP profiles over sizes from `below` to `above` x the best of each budget."""
    random = np.random.default_rng(0)
    rows = []
    for c in np.geomspace(1e19, 1e22, 5):
        best = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62) * (c / 6) ** (0.28 / 0.62)
        for n in best * np.geomspace(below, above, 7):
            rows.append((n, c * np.exp(jitter * random.uniform(-1, 1)) / 6 / n))
    n, d = np.array(rows).T
    return table(n, d, true_loss(n, d))


def test_approach_2_is_asked_on_losses_without_noise_what_its_grid_makes_of_a_known_law() -> None:
    centred, off = profiles(0.5, 2), profiles(0.7, 100)
    law = fit_law(centred, "chinchilla")
    budgets = np.array([1e20, 1e21])
    exact = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62) * (budgets / 6) ** (0.28 / 0.62)
    np.testing.assert_allclose(best_sizes(law, centred, budgets), exact, rtol=0.02)
    small = profile_bias(law, centred)
    assert small is not None and abs(small.read - small.true) < 0.002 and abs(small.sizes - 1).max() < 0.05
    found = Found(off, fit_law(off, "chinchilla"))
    found.isoflop = Approach(isoflop(off)[0])
    doubt = only(doubts(found), "isoflop_bias")
    read = isoflop(off)[0]
    assert doubt.numbers["size_ratio"] == pytest.approx(
        read.parameters[-1] / best_sizes(law, off, read.flop[-1:])[0], rel=0.05
    )
    assert 1.1 < doubt.numbers["size_ratio"] < 1.3 and doubt.numbers["bias"] == pytest.approx(0, abs=0.005)


def test_budgets_that_jitter_are_told() -> None:
    made = profiles(0.5, 2, jitter=0.04)
    found = Found(made, isoflop=Approach(isoflop(made)[0]))
    doubt = only(doubts(found), "jitter")
    assert 0.05 < doubt.numbers["largest"] < 0.09
    still = profiles(0.5, 2, jitter=0.001)
    assert doubts(Found(still, isoflop=Approach(isoflop(still)[0]))) == []


def test_budgets_beyond_all_that_was_tried_are_told_with_their_factor() -> None:
    made = grid()
    largest = made.column("flop").max()
    advice = [Advice("flop", "FLOP", factor * largest, UNKNOWN, UNKNOWN, UNKNOWN, "", "") for factor in (0.5, 100)]
    found = Found(made, advice=advice)
    assert only(doubts(found), "extrapolation").numbers == {"factor": pytest.approx(100), "tried": None}


def test_kinds_of_loss_and_settings_that_were_not_tuned_are_told() -> None:
    def with_settings(made: Table, **more: object) -> Table:
        return replace(made, runs=tuple(replace(run, **more) for run in made.runs))  # type: ignore[arg-type]

    made = grid()
    assert doubts(Found(with_settings(made, lr=1e-3, tried=5, kind="cosine"))) == []
    doubt = only(doubts(Found(with_settings(made, lr=1e-3))), "one_setting")
    assert doubt.text == "settings: at each of 36 places one setting was tried, which need not be the best"
    edge = with_settings(made, lr=1e-3, tried=5, at_edge=("lr",))
    assert only(doubts(Found(edge)), "setting_at_edge").numbers["places"] == 36
    mixed = replace(
        made, runs=tuple(replace(run, kind=("annealed", "stopped")[k % 2]) for k, run in enumerate(made.runs))
    )
    assert only(doubts(Found(mixed)), "loss_kind").numbers["runs"] == {"annealed": 18, "stopped": 18}


def test_fishers_tail_is_students_squared_and_agrees_with_tables() -> None:
    assert fisher_tail(2.3**2, 1, 12) == pytest.approx(student_tail(2.3, 12), rel=1e-9)
    assert fisher_tail(3.3258, 5, 10) == pytest.approx(0.05, abs=1e-5)  # Fisher's table, 5%
    assert fisher_tail(1.0, 300, 300) == pytest.approx(0.5, abs=1e-9)
