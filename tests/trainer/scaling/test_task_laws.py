"""Laws of tasks, on tables whose truth is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from trainer.cli.main import main
from trainer.report import RunData
from trainer.scaling.accuracy import TaskFindings, TaskLaws, find_tasks, fit_tasks, read_goals, tasks_at, write_tasks
from trainer.scaling.accuracy.averaged import average
from trainer.scaling.accuracy.point_cost import point_costs
from trainer.scaling.accuracy.predict import laws_json
from trainer.scaling.accuracy.series import read_series
from trainer.scaling.accuracy.sigmoid import accuracy_at, bits_for
from trainer.scaling.accuracy.text import format_laws
from trainer.scaling.fit import read_csv
from trainer.scaling.fit.law_file import unit_of, units
from trainer.scaling.fit.run_tasks import task_fields
from trainer.scaling.fit.table import Run, Table, TaskScore
from trainer.scaling.forms import FORMS
from trainer.utils.errors import UserError

TRUTH = {
    "hellaswag": (0.5, 200.0, 0.36, 90.0, 0.25, 9.0, 0.85, 0.25),
    "mmlu": (0.6, 40.0, 0.28, 30.0, 0.2, 5.0, 1.0, 0.25),
}
SIZES = (1e8, 3e8, 7e8, 1.3e9)
FEW = 20  # replicates


def true_bits(task: str, n: float, d: float) -> float:
    e, a, alpha, b, beta, *_ = TRUTH[task]
    return float(e + a * n**-alpha + b * d**-beta)


def true_accuracy(task: str, n: float, d: float) -> float:
    *_, k, middle, floor = TRUTH[task]
    return 1 - (1 - floor) / (1 + math.exp(-k * (true_bits(task, n, d) - middle)))


def made(noise: float = 0.0, seed: int = 0, sizes: tuple[float, ...] = SIZES, rows: int = 1) -> Table:
    """Runs of 1, 2, 5 and 10 times 20 tokens a parameter; rows along each of them at rows equal parts."""
    random = np.random.default_rng(seed)
    runs = []
    for n in sizes:
        for times in (1, 2, 5, 10):
            along = [_row(n, 20 * n * times * part / rows, noise, random) for part in range(1, rows + 1)]
            runs.append(replace(along[-1], earlier=tuple(along[:-1])))
    return Table(tuple(runs), "parameters", "6 N D", "EUR")


def _row(n: float, d: float, noise: float, random: np.random.Generator) -> Run:
    scores = []
    for task in TRUTH:
        bits = true_bits(task, n, d) * math.exp(noise * random.standard_normal())
        scores.append(TaskScore(task, bits, true_accuracy(task, n, d) + 0.5 * noise * random.standard_normal()))
    flop = 6 * n * d
    return Run(f"{n:g}-{d:g}", n, d, flop, math.nan, kwh=flop / 1e18, money=flop / 4e18, tasks=tuple(scores))


@pytest.fixture(scope="module")
def laws() -> TaskLaws:
    return fit_tasks(made(), replicates=FEW)


def test_both_steps_are_found_again_and_carry_far(laws: TaskLaws) -> None:
    for task in TRUTH:
        scores = tasks_at(laws, 7e9, 4e12)[task]
        assert scores["bits_per_byte"]["value"] == pytest.approx(true_bits(task, 7e9, 4e12), rel=5e-3)
        assert scores["accuracy"]["value"] == pytest.approx(true_accuracy(task, 7e9, 4e12), rel=5e-3)


def test_the_upper_end_is_one_and_the_lower_near_chance(laws: TaskLaws) -> None:
    theta = laws.laws["hellaswag"].second.theta  # type: ignore[union-attr]
    assert theta[:, 0].min() >= 0.8 * 0.25 - 1e-6 and theta[:, 0].max() <= 1.1 * 0.25 + 1e-6
    assert accuracy_at(theta[:1], np.array([-50.0]))[0, 0] == pytest.approx(1.0)


@pytest.mark.slow
def test_intervals_hold_runs_that_were_not_seen() -> None:
    inside = []
    for seed in range(12):
        laws = fit_tasks(made(0.008, seed), replicates=100)
        random = np.random.default_rng(1000 + seed)
        for times in (30, 100):
            run = _row(4e9, 4e9 * times, 0.008, random)
            predicted = tasks_at(laws, run.parameters, run.tokens)
            for score in run.tasks:
                one = predicted[score.task]
                for truth, figure in ((score.bits_per_byte, one["bits_per_byte"]), (score.accuracy, one["accuracy"])):
                    assert truth is not None
                    inside.append(figure["low"] <= truth <= figure["high"])
    assert np.mean(inside) >= 0.9


def test_rows_along_runs_feed_the_second_step_alone() -> None:
    first, second = (read_series(made(rows=rows), "hellaswag") for rows in (1, 20))
    assert len(first.runs) == len(second.runs) == 16
    assert len(second.way_run) > 100 and len(first.way_run) == 16
    assert (second.bits > first.bits).all()  # means over the last tenth, where it still falls


def test_exponents_of_exact_tables_are_met() -> None:
    n, d = (one.ravel() for one in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 4)))
    [law] = average([(n, d, 0.4 + 300 * n**-0.4 + 800 * d**-0.33)])
    far = (np.array([1e11]), np.array([1e13]))
    assert law.at(*far)[0] == pytest.approx(0.4 + 300 * 1e11**-0.4 + 800 * 1e13**-0.33, rel=5e-3)


def test_the_cheapest_model_is_the_cheapest(laws: TaskLaws) -> None:
    [cost, more] = point_costs(laws, read_goals("hellaswag:0.70,hellaswag:71%"))
    assert cost.parameters is not None and cost.tokens is not None
    n, d = cost.parameters.value, cost.tokens.value
    assert true_accuracy("hellaswag", n, d) == pytest.approx(0.70, abs=5e-3)
    e, a, alpha, b, beta, *_ = TRUTH["hellaswag"]
    needed = true_bits("hellaswag", n, d)
    sizes = n * np.geomspace(0.1, 10, 401)
    left = needed - e - a * sizes**-alpha
    tokens = np.where(left > 0, (np.maximum(left, 1e-12) / b) ** (-1 / beta), np.inf)
    assert cost.amounts["flop"].value == pytest.approx((6 * sizes * tokens).min(), rel=0.02)
    assert cost.amounts["kwh"].value == pytest.approx(cost.amounts["flop"].value / 1e18, rel=1e-3)
    assert "gco2e" not in cost.amounts  # no run states it
    assert cost.one_more["flop"].value == pytest.approx(
        more.amounts["flop"].value - cost.amounts["flop"].value, rel=1e-3
    )


def test_bits_for_is_the_inverse_of_the_sigmoid() -> None:
    theta = np.array([[0.25, 2.0, 0.8]])
    assert accuracy_at(theta, bits_for(theta, 0.61))[0, 0] == pytest.approx(0.61)
    assert np.isnan(bits_for(theta, 0.2))[0]


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("hellaswag:0.1", "a model that only guesses is above it"),
        ("hellaswag:0.9999", "at 0 bits per byte"),
        ("hellaswag:0.99", "no model falls below"),
    ],
)
def test_what_is_not_reached_is_said_in_one_line(goal: str, said: str, laws: TaskLaws) -> None:
    found = TaskFindings(laws, [], point_costs(laws, read_goals(goal)))
    [line] = [line for line in found.format().splitlines() if "not reached" in line]
    assert said in line
    assert said in found.to_json()["accuracy"][0]["refused"]


def test_a_task_at_chance_has_bits_per_byte_alone() -> None:
    table = made()
    flat = [replace(run, tasks=tuple(replace(one, accuracy=0.25) for one in run.tasks)) for run in table.runs]
    found = find_tasks(replace(table, runs=tuple(flat)), replicates=FEW)
    assert found is not None
    assert tasks_at(found.laws, 1e9, 1e11)["mmlu"]["accuracy"] is None
    assert "does not rise above that of a guess" in found.format()
    with pytest.raises(UserError, match="accuracy: mmlu: its accuracy"):
        find_tasks(replace(table, runs=tuple(flat)), goals=read_goals("mmlu:0.4"), replicates=FEW)


def test_scores_that_no_held_out_run_states_are_unknown_and_an_accuracy_of_0_counts_nothing() -> None:
    table = made()
    (first, *others), middle = TRUTH, float(np.median(table.column("flop")))

    def scored(run: Run) -> Run:
        large = run.flop > middle
        zero = [TaskScore(first, score.bits_per_byte, 0.0) for score in run.tasks if score.task == first]
        rest = [score for score in run.tasks if score.task in others and not large]
        return replace(run, tasks=tuple([*zero, *rest]) if large else run.tasks)

    found = fit_tasks(replace(table, runs=tuple(scored(run) for run in table.runs)), replicates=FEW)
    json.dumps(laws_json(found), allow_nan=False)
    assert found.held_out[others[0]].bits is None and found.held_out[first].accuracy is None
    assert f"  {others[0]}" in "\n".join(format_laws(found))


def test_tables_without_tasks_have_no_laws_of_them() -> None:
    table = made()
    bare = replace(table, runs=tuple(replace(run, tasks=()) for run in table.runs))
    assert find_tasks(bare) is None
    with pytest.raises(UserError, match="no tasks: the table has no columns"):
        find_tasks(bare, tasks=["hellaswag"])


@pytest.mark.parametrize(
    ("tasks", "goals", "said"),
    [
        (["helaswag"], "", "no such task (did you mean 'hellaswag')"),
        ([], "piqa:0.7", "accuracy: piqa: no such task"),
        ([], "hellaswag", "<task>:<accuracy between 0 and 1, or in %> wanted"),
        ([], "hellaswag:1.5", "<task>:<accuracy between 0 and 1, or in %> wanted"),
        ([], "hellaswag:-1", "<task>:<accuracy between 0 and 1, or in %> wanted"),
        ([], ":0.5", "<task>:<accuracy between 0 and 1, or in %> wanted"),
        ([], ",", "accuracy: nothing given"),
    ],
)
def test_bad_input_is_one_line(tasks: list[str], goals: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        find_tasks(made(), tasks=tasks, goals=read_goals(goals) if goals else [], replicates=FEW)
    assert said in str(error.value).replace("?", "")
    assert "\n" not in str(error.value)


def test_too_few_runs_are_named_with_what_is_needed() -> None:
    one_size = made(sizes=(1e8,))
    with_loss = replace(one_size, runs=tuple(replace(run, loss=3.0) for run in one_size.runs))
    assert find_tasks(with_loss) is None  # its losses may be fitted all the same
    with pytest.raises(UserError, match="hellaswag, mmlu: it needs bits per byte of 4 runs"):
        find_tasks(one_size)
    with pytest.raises(UserError, match="needs bits per byte of 4 runs of 2 sizes and 2 numbers of tokens"):
        find_tasks(one_size, tasks=["mmlu"])


def test_the_picture_has_prices_under_it(laws: TaskLaws) -> None:
    found = TaskFindings(laws, [], point_costs(laws, read_goals("hellaswag:0.70")))
    text = found.pictures()["accuracy"].svg.decode()
    assert all(word in text for word in ("training FLOPs", "kWh", "EUR", "hellaswag"))
    assert "mmlu" not in text  # not asked for


def test_bits_per_byte_are_fitted_where_there_is_no_loss(tmp_path: Path) -> None:
    rows = [f"{n:g},{d:g},{true_bits('mmlu', n, d)}" for n in SIZES for d in (2e9, 8e9, 4e10)]
    (tmp_path / "bits.csv").write_text("\n".join(["parameters,tokens,bits_per_byte", *rows]))
    table = read_csv(tmp_path / "bits.csv")
    assert table.runs[0].loss == pytest.approx(true_bits("mmlu", 1e8, 2e9))
    assert unit_of(table) == "bits/byte"
    assert units(FORMS["chinchilla"], table) == {"E": "bits/byte"}
    (tmp_path / "task.csv").write_text("\n".join(["parameters,tokens,mmlu bpb", *rows]))
    assert unit_of(read_csv(tmp_path / "task.csv", {"loss": "mmlu bpb"})) == "bits/byte"


def test_columns_of_tasks_give_laws(tmp_path: Path) -> None:
    lines = ["run,parameters,tokens,mmlu_bits_per_byte,mmlu_accuracy"]
    for run in made(rows=4).runs:
        for row in (*run.earlier, run):
            score = next(one for one in row.tasks if one.task == "mmlu")
            lines.append(f"{run.name},{row.parameters},{row.tokens},{score.bits_per_byte},{score.accuracy}")
    (tmp_path / "tasks.csv").write_text("\n".join(lines))
    table = read_csv(tmp_path / "tasks.csv")
    assert table.states_no_loss and len(table.runs) == 16
    found = find_tasks(table, points=[{"parameters": 7e9, "tokens": 4e12}], replicates=FEW)
    assert found is not None
    facts = write_tasks(found, tmp_path / "fit", "tasks.csv")
    assert json.loads((tmp_path / "fit" / "fit.json").read_text()) == facts
    [prediction] = facts["predictions"]
    assert prediction["loss"] is None and prediction["extrapolation_axis"] == "tokens"
    value = prediction["tasks"]["mmlu"]["accuracy"]["value"]
    assert value == pytest.approx(true_accuracy("mmlu", 7e9, 4e12), rel=0.01)
    assert f"{value:.3f}" in found.format()
    assert (tmp_path / "fit" / "accuracy.svg").exists()
    assert main(["fit", str(tmp_path / "tasks.csv"), "budget=1e21"]) == 2
    with pytest.raises(UserError, match="predict: what a model reaches in tasks needs its tokens"):
        find_tasks(table, points=[{"parameters": 7e9}], replicates=FEW)


def test_scores_of_a_run_folder_are_its_end_and_its_way() -> None:
    def scored(step: int, accuracy: float) -> dict[str, Any]:
        return {
            "step": step,
            "tokens": 100 * step,
            "scores": {"tasks": {"copy@4": {"bits_per_byte": 2.0, "accuracy": accuracy, "chance": 0.25}}},
        }

    said = SimpleNamespace(
        steps=SimpleNamespace(kept=[{"step": 5}, {"step": 10}]), evaluations=[scored(10, 0.6), scored(5, 0.5)]
    )
    fields = task_fields(cast(RunData, said), "a", 1e6)
    assert fields["tasks"] == (TaskScore("copy@4", 2.0, 0.6, 0.25),)
    [before] = fields["earlier"]
    assert (before.tokens, before.tasks) == (500, (TaskScore("copy@4", 2.0, 0.5, 0.25),))
    run = Run("a", 1e6, 1000.0, 6e9, 3.0, **fields)
    assert read_series(Table((run,), "test", "6 N D"), "copy@4").guess == 0.25
    unfinished = SimpleNamespace(steps=SimpleNamespace(kept=[{"step": 20}]), evaluations=said.evaluations)
    assert task_fields(cast(RunData, unfinished), "a", 1e6)["tasks"] == ()
