"""The form of a law by its error on larger runs, what is predicted from it, and laws as files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainer.cli.main import main
from trainer.scaling.fit import read_law, read_points
from trainer.scaling.fit.advice import Rate, best_by_law, best_by_search
from trainer.scaling.fit.choice import choose
from trainer.scaling.fit.ensemble import Ensemble, ensemble_of
from trainer.scaling.fit.law_file import against, counted, write_law
from trainer.scaling.fit.parametric import fit_law
from trainer.scaling.fit.predict import predict
from trainer.scaling.fit.resampling import resample
from trainer.scaling.fit.rolling import cuts_of
from trainer.scaling.fit.table import Run, Table
from trainer.utils.errors import UserError

SIZES = (3e7, 1e8, 3e8, 1e9, 3e9)
BUDGETS = np.geomspace(1e18, 1e21, 6)
TRIED = ("chinchilla", "kaplan")


def chinchilla(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28


def kaplan(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return ((8.8e13 / n) ** (0.076 / 0.095) + 5.4e13 / d) ** 0.095


def made(law, noise: float = 0.003, seed: int = 0, counts: str = "column 'total_parameters'") -> Table:
    """Isoflop profiles over six budgets whose FLOPs jitter by 1%."""
    random = np.random.default_rng(seed)
    n, c = (grid.ravel() for grid in np.meshgrid(SIZES, BUDGETS))
    d = c / 6 / n * np.exp(0.01 * random.standard_normal(len(n)))
    loss = law(n, d) * np.exp(noise * random.standard_normal(len(n)))
    runs = [Run(f"r{k}", *row) for k, row in enumerate(zip(n, d, 6 * n * d, loss, strict=True))]
    return Table(tuple(runs), counts, "6 N D")


def ensemble(table: Table, forms=TRIED, replicates: int = 40) -> Ensemble:
    choice = choose(table, forms, {})
    laws = {form: fit_law(table, form, resample(table, replicates)) for form in choice.weights()}
    return ensemble_of(table, choice, laws, (float(np.log(6)), 1.0))


@pytest.fixture(scope="module")
def known() -> Ensemble:
    return ensemble(made(chinchilla))


@pytest.mark.parametrize("law", [chinchilla, kaplan])
def test_the_form_that_made_the_runs_is_chosen_by_what_it_predicts(law) -> None:
    choice = choose(made(law), TRIED, {"experts": "no column"})
    best = choice.candidates[0]
    assert choice.chosen == law.__name__ == best.form
    assert best.error < 0.01 and choice.weights()[law.__name__] > 0.5
    assert [one.refused for one in choice.candidates if one.form == "experts"] == ["no column"]


def test_a_cut_keeps_budgets_whole_and_holds_out_larger_runs() -> None:
    table = made(chinchilla)
    cuts = cuts_of(table)
    flop = table.column("flop")
    assert len(cuts) >= 3
    for cut in cuts:
        assert flop[cut.kept].max() < flop[cut.out].min()
        assert not set(table.budgets[cut.kept]) & set(table.budgets[cut.out])
        assert (cut.reach >= flop[cut.out] / flop[cut.kept].max() * (1 - 1e-12)).all()


def test_a_tie_goes_to_fewer_constants() -> None:
    """Chinchilla's law with a floor that is nearly nothing is a sum of powers, as the ladder's with one more."""
    table = made(lambda n, d: 2.0 + 3e3 / (6 * n * d) ** 0.2, noise=0.004)
    choice = choose(table, ("ladder", "farseer"), {})
    assert choice.chosen == "ladder"


def test_where_nothing_can_be_held_out_that_is_said() -> None:
    few = made(chinchilla)
    few = few.only(np.isin(np.arange(len(few.runs)), (0, 6, 13, 20, 27, 22)))
    choice = choose(few, ("chinchilla",), {})
    assert choice.chosen == "chinchilla" and "untested" in choice.why
    laws = {"chinchilla": fit_law(few, "chinchilla")}
    calibration = ensemble_of(few, choice, laws, None).calibration
    assert not calibration.tested and calibration.growth > 0


def test_intervals_widen_with_the_distance_and_hold_runs_that_were_not_seen(known: Ensemble) -> None:
    random = np.random.default_rng(5)
    n = np.full(200, 6e9)
    d = 3e21 / 6 / n
    figures = known.interval({"parameters": n, "tokens": d})
    runs = chinchilla(n, d) * np.exp(0.003 * random.standard_normal(len(n)))
    held = [figure.low <= loss <= figure.high for figure, loss in zip(figures, runs, strict=True)]
    assert np.mean(held) > 0.85
    near, far = known.interval({"parameters": np.array([1e9, 1e11]), "tokens": np.array([2e10, 2e12])})
    assert far.high / far.low > near.high / near.low
    law = known.interval({"parameters": n[:1], "tokens": d[:1]}, of_a_run=False)[0]
    assert law.low > figures[0].low and law.high < figures[0].high


def test_draws_and_values_agree(known: Ensemble) -> None:
    at = {"parameters": np.array([1e9, 3e9]), "tokens": np.array([2e10, 6e10])}
    draws = known.sample(at)
    assert draws.shape[1] == 2 and np.isfinite(draws).all()
    np.testing.assert_allclose(np.median(draws, axis=0), known.value(at), rtol=0.01)
    np.testing.assert_allclose(known.value(at), chinchilla(*at.values()), rtol=0.01)


def test_a_search_over_sizes_finds_the_closed_optimum() -> None:
    table = made(chinchilla)
    law = fit_law(table, "chinchilla")
    rate = Rate(np.array([np.log(6)]), np.array([1.0]))
    n, d, _ = best_by_law(law, rate, 1e22)
    found = best_by_search("chinchilla", law.constants(), rate, 1e22, (1e7, 1e12), {})
    np.testing.assert_allclose(found, (n, d), rtol=1e-2)
    assert 6 * found[0] * found[1] == pytest.approx(1e22)
    rim = best_by_search("chinchilla", law.constants(), rate, 1e22, (1e7, 1e8), {})
    assert np.isnan(rim).all()


def test_places_are_read_in_order_with_what_else_is_given() -> None:
    assert read_points("7b@4t, 13000000000@5e12,1.5M@2k:unique_tokens=1t,experts=8,1b@2b") == [
        {"parameters": 7e9, "tokens": 4e12},
        {"parameters": 1.3e10, "tokens": 5e12},
        {"parameters": 1.5e6, "tokens": 2e3, "unique_tokens": 1e12, "experts": 8.0},
        {"parameters": 1e9, "tokens": 2e9},
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nothing given"),
        ("7b@", "'nothing' given, a number above 0 wanted"),
        ("7x@4t", "'7x' given"),
        ("-7b@4t", "'-7b' given"),
        ("7b@4t@2", "'4t@2' given"),
        ("7b@4t:lr=3", r"'lr' is nothing that a law reads; there is active=.*unique_tokens="),
        ("7b@4t:uniqe_tokens=3", r"did you mean 'unique_tokens'"),
        ("7b@1e999", "a number above 0 wanted"),
        ("1e300@4t", "a number above 0 wanted"),
    ],
)
def test_wrong_places_are_one_line(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as told:
        read_points(text)
    assert "\n" not in str(told.value)


def test_a_place_must_say_what_the_law_reads(known: Ensemble) -> None:
    with pytest.raises(UserError, match=r"tokens is not given: write 7b@<tokens>"):
        predict(known, [{"parameters": 7e9}])
    with pytest.raises(UserError, match=r"experts is given, but the law reads parameters, tokens alone"):
        predict(known, [{"parameters": 7e9, "tokens": 1e12, "experts": 8.0}])
    place = {"parameters": 7e9, "tokens": 1e12, "unique_tokens": 1e11}  # which a form reads that was tried, not chosen
    assert predict(known, [place], tried=["data-constrained"])[0].loss.value > 0


def test_what_is_added_to_a_prediction_stands_beside_it(known: Ensemble) -> None:
    [one] = predict(known, [{"parameters": 6e9, "tokens": 3e11}], [lambda point, loss: {"lr": 1 / point["parameters"]}])
    facts = one.to_json()
    assert facts["lr"] == 1 / 6e9 and facts["parameters"] == 6e9 and set(facts["loss"]) == {"value", "low", "high"}
    assert facts["extrapolation"] == pytest.approx(6 * 6e9 * 3e11 / known.known["flop"][1])


def test_a_law_comes_back_from_its_file(known: Ensemble, tmp_path: Path) -> None:
    table = made(chinchilla)
    write_law(known, table, tmp_path / "law.json")
    law = read_law(tmp_path)
    points = [{"parameters": 7e9, "tokens": 2e11}]
    first, again = predict(known, points)[0], predict(law.ensemble, points)[0]
    assert again.loss.value == first.loss.value and again.extrapolation == first.extrapolation
    assert again.loss.high == pytest.approx(first.loss.high, rel=2e-3)
    found = against(law, table)
    assert found.error < 0.004 and abs(found.bias) < 0.002 and found.inside > 0.9
    assert sum(row[1] for row in found.budgets) == len(table.runs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda facts: facts | {"kind": "recipe"}, "no law"),
        (lambda facts: facts | {"version": 9}, "a law of version 9; this isoflop reads version 1"),
        (lambda facts: facts | {"runs": 3}, "does not fit its hash"),
        (lambda facts: [1], "no law"),
    ],
)
def test_damaged_laws_are_one_line(known: Ensemble, change, says: str, tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    write_law(known, made(chinchilla), path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=says) as told:
        read_law(path)
    assert "\n" not in str(told.value)


def test_another_count_or_unit_is_refused(known: Ensemble, tmp_path: Path) -> None:
    write_law(known, made(chinchilla), tmp_path / "law.json")
    law = read_law(tmp_path / "law.json")
    with pytest.raises(UserError, match="its N counts total parameters, the table's non_embedding"):
        against(law, made(chinchilla, counts="column 'non_embedding_parameters'"))
    normalised = made(lambda n, d: chinchilla(n, d) - 9)
    with pytest.raises(UserError, match="its loss is in nats/token, the table's in normalised"):
        against(law, normalised)
    unknown = replace(normalised, runs=tuple(replace(run, loss=math.nan) for run in normalised.runs))
    with pytest.raises(UserError, match="the table states no loss"):
        against(law, unknown)
    assert counted("column 'N'; whether embeddings are in it, the table does not state") == "not stated"


def test_the_command_predicts_in_the_order_asked_and_from_the_file_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{run.parameters},{run.tokens},{run.loss}" for run in made(chinchilla).runs]
    (tmp_path / "t.csv").write_text("\n".join(["parameters,tokens,loss", *rows]) + "\n")
    asked = ["predict=7b@2e11,2000000000@40b", "--json"]
    fitted = ["fit", str(tmp_path / "t.csv"), "form=chinchilla,kaplan", "replicates=20", f"out={tmp_path / 'out'}"]
    assert main([*fitted, *asked]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [(one["parameters"], one["tokens"]) for one in facts["predictions"]] == [(7e9, 2e11), (2e9, 4e10)]
    assert facts["chosen"] == "chinchilla" and facts["forms"]["farseer"]["refused"] == "it was not asked for"
    assert main(["fit", f"law={tmp_path / 'out' / 'law.json'}", *asked]) == 0
    again = json.loads(capsys.readouterr().out)["predictions"]
    assert [one["loss"]["value"] for one in again] == [one["loss"]["value"] for one in facts["predictions"]]
    wrong = [
        [*fitted[:2], "form=chinchila"],
        [*fitted[:2], "form=experts"],
        [*fitted[:2], "predict=7b"],
        [*fitted[:2], "law=none.json"],
        ["fit", f"law={tmp_path / 'out' / 'fit.json'}", "predict=7b@1t"],
        ["fit", f"law={tmp_path / 'out'}"],
        ["fit", f"law={tmp_path / 'out'}", "budget=1e22"],
    ]
    for words in wrong:
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert len([line for line in error.splitlines() if line.startswith("isoflop: ")]) == 1, error
