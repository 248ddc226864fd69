"""Fits against laws that are known: data are generated from published constants, and must give them back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.cli.main import main
from trainer.scaling.fit import findings_json, fit, fit_optima, read_csv, read_table, write_fit
from trainer.scaling.fit.advice import best_by_law, price_rate
from trainer.scaling.fit.parametric import fit_law
from trainer.scaling.fit.solver import DELTA, huber
from trainer.scaling.fit.table import Run, Table
from trainer.scaling.forms.chinchilla import Chinchilla
from trainer.utils.errors import UserError

CHINCHILLA = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}  # Hoffmann et al. 2022, section 3.3
KAPLAN = {"alpha_N": 0.076, "alpha_D": 0.095, "N_c": 8.8e13, "D_c": 5.4e13}  # Kaplan et al. 2020, equation 1.5
SIZES = (44e6, 74e6, 140e6, 306e6, 587e6, 1.2e9, 2.4e9, 4.5e9, 9e9)


def quiet(what: str, done: int, total: int) -> None:
    pass


def chinchilla(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28


def table(n: Sequence[float], d: Sequence[float], loss: Sequence[float], **more: float) -> Table:
    runs = [Run(f"r{k}", a, b, 6 * a * b, c, **more) for k, (a, b, c) in enumerate(zip(n, d, loss, strict=True))]
    return Table(tuple(runs), "test", "6 N D")


def profiles(noise: float, seed: int = 0, seeds: int = 1) -> Table:
    """IsoFLOP profiles over fixed sizes, as Hoffmann et al. trained them."""
    random = np.random.default_rng(seed)
    n, c = (grid.ravel() for grid in np.meshgrid(SIZES, np.geomspace(6e18, 3e21, 7)))
    n, c = np.repeat(n, seeds), np.repeat(c, seeds)
    d = c / 6 / n
    keep = (d / n > 0.5) & (d / n < 1000)
    loss = chinchilla(n, d) * np.exp(noise * random.standard_normal(len(n)))
    return table(n[keep], d[keep], loss[keep])


@pytest.mark.parametrize("seed", [0, 1])
def test_noisy_data_give_back_the_law_within_its_intervals(seed: int) -> None:
    found = fit(profiles(0.005, seed, seeds=2), budgets=[], replicates=150, progress=quiet)
    facts = findings_json(found)
    for name, true in CHINCHILLA.items():
        figure = facts["approach_3_parametric"][name]
        assert figure["low"] <= true <= figure["high"], (name, figure)
    a = 0.28 / (0.34 + 0.28)
    for approach in ("approach_1_envelope", "approach_2_isoflop", "approach_3_parametric"):
        assert facts[approach]["a"]["low"] <= a <= facts[approach]["a"]["high"], approach
        assert facts[approach]["b"]["low"] <= 1 - a <= facts[approach]["b"]["high"], approach
    assert facts["seed_noise_log_loss"] == pytest.approx(0.005, rel=0.4)
    errors = {score["form"]: score["error"] for score in facts["leave_largest_out"]}
    assert errors["chinchilla"] < 0.01 < errors["kaplan"]  # Kaplan's form has no floor, these data have


def test_clean_data_give_back_the_law_exactly() -> None:
    law = fit_law(profiles(0.0), "chinchilla")
    np.testing.assert_allclose(law.constants()[0], list(CHINCHILLA.values()), rtol=2e-3)
    assert law.residual < 1e-5


def test_kaplans_law_is_given_back() -> None:
    made = profiles(0.0)
    n, d = made.column("parameters"), made.column("tokens")
    p = KAPLAN
    loss = ((p["N_c"] / n) ** (p["alpha_N"] / p["alpha_D"]) + p["D_c"] / d) ** p["alpha_D"]
    law = fit_law(table(n, d, loss), "kaplan")
    np.testing.assert_allclose(law.constants()[0], list(p.values()), rtol=1e-3)
    # The optimum of that law by brute force: N ~ C^a with a = alpha_D / (alpha_N + alpha_D).
    assert law.exponents()[0, 0] == pytest.approx(0.095 / (0.076 + 0.095), abs=1e-3)


def test_no_start_of_another_optimiser_finds_a_lower_objective() -> None:
    """Hoffmann et al. 2022, appendix D.3: L-BFGS on the same objective, from a grid of starts."""
    made = profiles(0.02, 3)
    ours = fit_law(made, "chinchilla")
    n, d, loss = (torch.from_numpy(np.log(made.column(name))) for name in ("parameters", "tokens", "loss"))
    lowest = np.inf
    for e, a, alpha in ((0.0, 5.0, 0.3), (0.5, 10.0, 0.5)):
        theta = torch.tensor([e, a, a, alpha, alpha], dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([theta], max_iter=400, line_search_fn="strong_wolfe", tolerance_change=1e-14)

        def objective(theta: torch.Tensor = theta) -> torch.Tensor:
            lines = [theta[0].expand_as(n), theta[1] - theta[3] * n, theta[2] - theta[4] * d]
            residual = torch.stack(lines).logsumexp(0) - loss
            return torch.nn.functional.huber_loss(residual, torch.zeros_like(residual), delta=DELTA)

        def closure(optimiser: torch.optim.LBFGS = optimiser, objective=objective) -> torch.Tensor:
            optimiser.zero_grad()
            value = objective()
            value.backward()
            return value

        optimiser.step(closure)
        lowest = min(lowest, float(objective().detach()))
    assert ours.objective <= lowest * (1 + 1e-6)
    residual = ours.model.predict(ours.theta)[0][0] - np.log(made.column("loss"))
    assert huber(residual).mean() == pytest.approx(ours.objective)


def test_the_units_of_the_table_do_not_matter() -> None:
    made = profiles(0.01, 5)
    n, d, loss = (made.column(name) for name in ("parameters", "tokens", "loss"))
    once = fit_law(made, "chinchilla").constants()[0]
    other = fit_law(table(n * 1e9, d * 1e-6, loss * 100), "chinchilla").constants()[0]
    np.testing.assert_allclose(other[3:], once[3:], rtol=1e-4)
    assert other[0] == pytest.approx(100 * once[0], rel=1e-4)


def test_published_compute_optimal_sizes_give_one_half(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hoffmann et al. 2022, table 3 (approach 1): a = b = 0.50."""
    rows = "400M,1.92e19,8.0B\n1B,1.21e20,20.2B\n175B,3.85e24,3.7T\n520B,3.43e25,11.0T\n1T,1.27e26,21.2T\n"
    (tmp_path / "table3.csv").write_text("parameters,flop,tokens\n" + rows)
    facts = fit_optima(read_csv(tmp_path / "table3.csv", optimal=True))
    assert facts["a"] == pytest.approx(0.5, abs=0.005)
    assert facts["b"] == pytest.approx(0.5, abs=0.005)
    assert main(["fit", str(tmp_path / "table3.csv")]) == 2
    assert "optimal=true" in capsys.readouterr().err
    assert main(["fit", str(tmp_path / "table3.csv"), "optimal=true"]) == 0
    assert "N ~ C^a  0.49" in capsys.readouterr().out


def test_best_model_is_the_minimum_over_all_sizes() -> None:
    made = profiles(0.0)
    law = fit_law(made, "chinchilla")
    rate = price_rate(made, "flop", np.empty((0, len(made.runs))))
    assert rate is not None
    n, d, loss = (float(column[0]) for column in best_by_law(law, rate, 5.76e23))
    sizes = np.geomspace(1e8, 1e13, 20_001)
    losses = law.at(sizes, 5.76e23 / 6 / sizes)[0]
    assert n == pytest.approx(sizes[losses.argmin()], rel=2e-3)
    assert (6 * n * d, loss) == (pytest.approx(5.76e23), pytest.approx(losses.min(), rel=1e-6))
    # And by the published formula: G = (alpha A / (beta B))^(1 / (alpha + beta)), N = G (C / 6)^a.
    a = 0.28 / 0.62
    published = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62) * (5.76e23 / 6) ** a
    assert n == pytest.approx(published, rel=0.02)


def test_a_price_per_token_is_carried_to_budgets_in_kwh(tmp_path: Path) -> None:
    made = profiles(0.003)
    runs = [Run(**{**vars(run), "kwh": run.flop / 1e17, "gco2e": run.flop / 1e15}) for run in made.runs]
    found = fit(Table(tuple(runs), "test", "6 N D"), budgets=["1e21", "10MWh", "1000kg"], replicates=40, progress=quiet)
    by_flop, by_kwh, by_gram = found.advice
    assert by_kwh.budget == 1e4
    for other in (by_kwh, by_gram):  # 1e4 kWh and 1e6 g are 1e21 FLOP here
        assert other.parameters.value == pytest.approx(by_flop.parameters.value, rel=1e-6)
    names = {path.name for path in _written(found, tmp_path)}
    assert {"fit.json", "fit.html", "loss-kwh.png", "loss-gco2e.svg", "isoflop.png", "optimum.svg"} <= names
    page = (tmp_path / "fit.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and page.count("data:image/svg") == 9
    json.loads((tmp_path / "fit.json").read_text())


def _written(found, folder: Path) -> list[Path]:
    write_fit(found, folder, "test")
    return sorted(folder.iterdir())


def test_a_ladder_with_one_rule_of_tokens_is_a_power_of_its_flops() -> None:
    n = np.geomspace(1e6, 1e9, 8)
    flop = 120 * n * n
    loss = 2.0 + 400 / flop**0.15
    found = fit(table(n, 20 * n, loss), budgets=["1e21"], replicates=40, progress=quiet)
    assert set(found.laws) == {"ladder"}
    np.testing.assert_allclose(found.laws["ladder"].constants()[0], [2.0, 400, 0.15], rtol=1e-3)
    assert "cannot be told apart" in found.refused["chinchilla"]
    advice = found.advice[0]
    assert advice.parameters.value == pytest.approx((1e21 / 120) ** 0.5)
    assert advice.loss.value == pytest.approx(2.0 + 400 / 1e21**0.15, rel=1e-4)
    assert advice.extrapolation == "extrapolation: 8.33 x the largest run"


def test_sums_of_powers_have_true_derivatives() -> None:
    made = profiles(0.01)
    model = Chinchilla([made.column("parameters"), made.column("tokens")], made.column("loss"))
    theta = np.array([[0.4, 0.1, 0.2, 0.3, 0.35]])
    _, slopes = model.predict(theta)
    for k in range(5):
        step = np.zeros(5)
        step[k] = 1e-6
        difference = (model.predict(theta + step)[0] - model.predict(theta - step)[0]) / 2e-6
        np.testing.assert_allclose(slopes[:, :, k], difference, atol=1e-8)


@pytest.mark.parametrize(
    ("n", "d", "says"),
    [
        ([1e6] * 6, [1e7, 2e7, 4e7, 8e7, 1e8, 2e8], "at least 3 sizes and 3 numbers of tokens; there is 1 and 6"),
        ([1e6, 2e6, 4e6], [1e8, 1e8, 1e8], "there are 3 and 1"),
        ([1e6, 2e6, 4e6], [1e7, 2e8, 1e8], "more than 5 runs of different sizes or tokens; there are 3"),
    ],
)
def test_too_poor_tables_are_refused_with_what_is_missing(n: list[float], d: list[float], says: str) -> None:
    loss = [3.0 + 0.01 * k for k in range(len(n))]
    with pytest.raises(UserError, match=says):
        fit(table(n, d, loss), budgets=[], progress=quiet)


def test_equal_losses_are_told_and_not_crashed_on() -> None:
    made = profiles(0.0)
    flat = table(made.column("parameters"), made.column("tokens"), np.full(len(made.runs), 2.5))
    found = fit(flat, budgets=[], replicates=30, progress=quiet)
    assert found.laws["chinchilla"].at(np.array([1e8]), np.array([1e9]))[0] == pytest.approx(2.5, rel=1e-6)
    assert "no minimum" in found.isoflop.why
    doubts = findings_json(found)["approach_3_parametric"]["doubts"]
    assert {"loss does not fall with parameters in these runs: alpha means nothing"} <= set(doubts)
    with pytest.raises(UserError, match=r"budget: these runs determine no best model \(.*do not say how loss falls"):
        fit(flat, budgets=["1e21"], replicates=30, progress=quiet)


CSV_ERRORS = [
    ("params,steps,loss\n1e6,1e7,3\n", "no column for tokens"),
    ("parameters,tokens\n1e6,1e7\n", "no column for loss"),
    ("tokens,loss\n1e6,3\n", "no column for parameters"),
    ("parameters,tokens,loss\n1e6,,3\n", "row 2, tokens: 'nothing' given, a number wanted"),
    ("parameters,tokens,loss\n1e6,1e7,3\n-5,1e7,3\n", "row 3, parameters: -5 given, a positive number wanted"),
    ("parameters,tokens,loss\n1e6,1e7,3\n\nabc,1e7,3\n", "row 4, parameters: 'abc' given, a number wanted"),
    ("parameters,tokens,loss\n1e6,1e7,-3\n", "row 2, loss: -3 given, a positive number wanted"),
    ("parameters,tokens,loss\n1e6,1e7,3e-80\n", "row 2, loss: 3e-80 given, a number between 1e-60 and 1e.60 wanted"),
    ("parameters;tokens;loss\n1e6;1e7;3,123\n", "row 2, loss: '3,123' given, a number wanted"),
    ("parameters,tokens,loss\n1e6,1e7,3,123\n", "row 2 has 4 cells under 3 titles"),
    ("parameters,tokens,loss,loss\n1e6,1e7,3,3\n", "2 columns are called 'loss'"),
    ("parameters (furlongs),tokens,loss\n1e6,1e7,3\n", "unit 'furlongs' is not known; there is k, m, b, t"),
    ("parameters,params,tokens,loss\n1e6,1e6,1e7,3\n", "both mean parameters; choose with column.parameters"),
    ("parameters,tokens,loss\n", "no runs under the line of titles"),
    ("", "empty table"),
    ("parameters,tokens,loss,data\n1e6,1e7,3,web\n2e6,1e7,3,code\n", "data: these runs differ in it"),
    ("parameters,tokens,loss,tokenizer\n1e6,1e7,3,bpe\n2e6,1e7,3,unigram\n", "unigram .row 3."),
]


@pytest.mark.parametrize(("text", "says"), CSV_ERRORS)
def test_wrong_tables_are_one_line_and_name_the_row(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs.csv").write_text(text)
    assert main(["fit", str(tmp_path / "runs.csv")]) == 2
    error = capsys.readouterr().err
    with pytest.raises(UserError, match=says):
        read_table(tmp_path / "runs.csv")
    assert all(line.startswith("isoflop: ") for line in error.splitlines())


def test_optimal_models_are_chosen_by_where_and_answer_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best.csv"
    path.write_text("parameters,tokens,by\n1e6,2e7,a\n1e7,2e8,a\n1e6,1e9,b\n1e7,2e9,b\n")
    assert main(["fit", str(path), "optimal=true", "where=by=a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["a"] == pytest.approx(0.5)
    for words in (["optimal=true"], ["next=2", "question=exponent"]):
        assert main(["fit", str(path), *words, "predict=1b@20b"]) == 2
        assert "predict: not together with" in capsys.readouterr().err


def test_tables_speak_of_units_and_leave_out_what_diverged(tmp_path: Path) -> None:
    text = "\ufeffModel Size (M);Training FLOP (PF-days);Val Loss (nats);energy (Wh);run\n"
    text += '1;1e-6;3.5;10;a\n"1,000";2;2.5;20;b\n2;1e-6;nan;;c\n'
    (tmp_path / "runs.csv").write_text(text)
    made = read_table(tmp_path / "runs.csv")
    assert [run.parameters for run in made.runs] == [1e6, 1e9]
    assert made.runs[0].flop == pytest.approx(8.64e13)
    assert made.runs[0].tokens == pytest.approx(8.64e13 / 6e6)
    assert made.runs[1].kwh == 0.02
    assert made.left_out == (("c", "it has no finite loss"),)
    assert "whether embeddings" in made.counts


def test_rows_of_runs_that_did_not_finish_are_left_out_by_name(tmp_path: Path) -> None:
    text = (
        "run,status,parameters,tokens,loss\na,finished,1e6,1e7,3\nb,not started,2e6,,\nc,failed,2e6,1e7,\nd,,2e6,1e7,\n"
    )
    (tmp_path / "sweep.csv").write_text(text)
    made = read_table(tmp_path / "sweep.csv")
    assert [run.name for run in made.runs] == ["a"]
    assert made.left_out == (("b", "not started"), ("c", "failed"), ("d", "it has no finite loss"))
    (tmp_path / "none.csv").write_text("run,parameters,tokens,loss\na,1e6,1e7,nan\n")
    with pytest.raises(UserError, match="no run is left; a: it has no finite loss"):
        fit(read_table(tmp_path / "none.csv"), budgets=[], progress=quiet)
    with pytest.raises(UserError, match=r"nothing can be fitted .*; left out are b: not started, c: failed, d: it has"):
        fit(made, budgets=[], progress=quiet)


def test_one_budget_is_no_ladder() -> None:
    n = np.array(SIZES)
    with pytest.raises(UserError, match="nothing can be fitted"):
        fit(table(n, 1e19 / 6 / n, chinchilla(n, 1e19 / 6 / n)), budgets=["1e20"], progress=quiet)


@pytest.mark.parametrize("budget", ["-1", "1e400", "abc", "10 parsecs", "0"])
def test_wrong_budgets_are_refused(budget: str) -> None:
    with pytest.raises(UserError, match="a positive number wanted, FLOPs or with a unit of"):
        fit(profiles(0.01), budgets=[budget], progress=quiet)


def test_budgets_in_what_no_run_states_are_refused() -> None:
    with pytest.raises(UserError, match="no two of the runs state their kwh"):
        fit(profiles(0.01), budgets=["3kWh"], replicates=20, progress=quiet)
