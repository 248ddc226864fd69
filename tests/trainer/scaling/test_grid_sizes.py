"""A grid over sizes: its runs and budgets, and the efficiency factors of generated scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trainer.books import flops, parameters
from trainer.cli.main import main
from trainer.config import GridConfig
from trainer.scaling.grid import planned_grid, results_json, write_results
from trainer.scaling.grid.efficiency import efficiencies, transformed, untransformed
from trainer.scaling.grid.results import COSTS, Point, Results, Row, Score
from trainer.scaling.grid.text import format_results, markdown

SIZES = "grid.sizes=['model.width=32 model.heads=2','model.width=64 model.heads=4']"
FLOP = {"s1": 1e12, "s2": 1e13, "s3": 1e14}
FACTORS = {"causal": 1.0, "masked": 1.3, "spans": 0.6}


def test_every_objective_has_the_budget_of_its_size() -> None:
    grid, cells = planned_grid(["grid=families", SIZES, "grid.flop=[5e10,2e11]", "grid.seeds=[0,1]"])
    assert [cell.size for cell in cells[::6]] == ["width32-heads2", "width64-heads4"] and len(cells) == 12
    for cell in cells:
        account, wanted = flops(cell.run.config), 5e10 if cell.size == "width32-heads2" else 2e11
        assert account.total <= wanted < account.total + account.per_step
        assert cell.run.config.model.width == (32 if wanted == 5e10 else 64)
    assert cells[0].run.name == "causal-width32-heads2-s0"
    assert len({cell.run.folder.path for cell in cells}) == 12
    assert grid.amount(1) == ("flop", 2e11)


def test_tokens_a_parameter_are_those_of_the_first_objective() -> None:
    _, cells = planned_grid(["grid=families", SIZES, "grid.tokens_per_parameter=5", "grid.seeds=[0]"])
    for number in (0, 3):
        first, *others = (cell.run.config for cell in cells[number : number + 3])
        budget = 5 * parameters(first).total * flops(first).per_token
        assert all(flops(config).total <= budget * 1.0001 for config in (first, *others))
        assert all(flops(config).total > budget - flops(config).per_step for config in (first, *others))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["grid.flop=[1e10]"], "grid.flop: 1 amount given for 2 sizes; give one for all, or one for each"),
        (["grid.flop=[1e11,-1]"], "grid.flop: -1 given, 1 or more wanted"),
        (["grid.flop=[1e11,soon]"], "grid.flop: 'soon' given; a whole number wanted"),
        (["grid.flop=1.5"], "grid.flop: 1.5 given; a whole number wanted"),
        (["grid.flop=true"], "grid.flop: True given; a number wanted"),
        (["grid.kwh=0"], "grid.kwh: 0 given, more than 0 wanted"),
        (["grid.sizes=[]", "grid.flop=[1e11,1e12]"], "grid.flop: 2 amounts given for 0 sizes"),
        (["grid.sizes=[100k,100k]"], "grid.sizes: 100k given twice"),
        (["grid.sizes=[llama-mni]"], "grid.sizes: llama-mni: no such preset (did you mean 'llama-mini'?)"),
        (["model.width=16"], "model.width=16: the grid states it; set grid.sizes"),
        (["grid.flop=1e11", "grid.tokens_per_parameter=20"], "state exactly one budget of flop, kwh, tokens and"),
    ],
)
def test_wrong_sizes_and_budgets_are_refused_in_a_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", "grid=families", SIZES, *words, "--plan"]) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1, error


def generated(seed: int, *, noise: float = 0.03, rise: float = 0.4, factors: dict[str, float] = FACTORS) -> Results:
    """Three objectives over three sizes and seeds, whose scores on two tasks are those of known factors."""
    tasks = {"swapped": {"words": [], "score": "accuracy"}, "write": {"words": [], "score": "perplexity"}}
    grid = GridConfig.model_validate(
        {
            "objectives": {name: [] for name in factors},
            "tasks": tasks,
            "sizes": list(FLOP),
            "flop": [*map(int, FLOP.values())],
        }
    )
    random, points, rows = np.random.default_rng(seed), [], []
    for size, flop in FLOP.items():
        for objective, factor in factors.items():
            of_row: dict[str, list[float]] = {"swapped": [], "write": []}
            for number in range(3):
                away = np.log(flop / factor / 1e13)
                swapped = untransformed(np.array(0.2 + rise * away + noise * random.normal()), "accuracy")
                write = untransformed(np.array(-1.2 + 0.1 * rise * away + 0.1 * noise * random.normal()), "perplexity")
                for task, value in (("swapped", float(swapped)), ("write", float(write))):
                    of_row[task].append(value)
                    kwh = 1e-14 * flop * (2 if objective == "masked" else 1)
                    costs = dict.fromkeys(COSTS) | {"flop": flop, "kwh": kwh}
                    points.append(Point(objective, size, number, task, value, costs))
            scores = {task: Score(tuple(values)) for task, values in of_row.items()}
            rows.append(Row(objective, "decoder", 1, 10, 2048, None, scores, costs, costs, (), size))
    return Results(grid, tuple(rows), {}, None, None, points=tuple(points))


def test_known_factors_are_found_on_each_task_and_on_all() -> None:
    found = {one.objective: one for one in efficiencies(generated(0), replicates=200)}
    assert set(found) == {"masked", "spans"}
    for name, one in found.items():
        for factor in (*one.tasks.values(), one.whole):
            flop = factor.figures["flop"]
            assert factor.determined and flop.low < FACTORS[name] < flop.high < 1.6 * flop.low
    assert found["masked"].whole.figures["kwh"].value == pytest.approx(2 * found["masked"].whole.figures["flop"].value)
    assert found["spans"].doubts == ()


@pytest.mark.slow
def test_intervals_hold_the_factor_of_forty_grids() -> None:
    inside = []
    for seed in range(40):
        for one in efficiencies(generated(100 + seed, noise=0.06), replicates=200):
            flop = one.whole.figures["flop"]
            inside.append(flop.low <= FACTORS[one.objective] <= flop.high)
    assert 0.90 <= np.mean(inside) <= 1


def test_what_scores_do_not_tell_is_not_determined() -> None:
    flat = efficiencies(generated(1, rise=0.0), replicates=200)
    assert all(not one.whole.determined for one in flat)
    text = format_results(generated(1, rise=0.0), flat)
    assert "not determined" in text and "scores do not surely rise with compute on swapped" in text


def test_an_objective_that_rises_otherwise_is_said() -> None:
    results = generated(2)
    points = []
    for point in results.points:
        away = np.log(point.costs["flop"] / 1e13) if point.objective == "spans" and point.task == "swapped" else 0.0
        value = transformed(np.array(point.value), "accuracy") + 0.2 * away if away else None
        moved = point.value if value is None else float(untransformed(value, "accuracy"))
        points.append(Point(point.objective, point.size, point.seed, point.task, moved, point.costs))
    found = {
        one.objective: one
        for one in efficiencies(Results(results.grid, results.rows, {}, None, None, points=tuple(points)))
    }
    assert any("on swapped its score rises otherwise" in doubt for doubt in found["spans"].doubts)


def test_tables_pictures_and_json_hold_the_factors(tmp_path: Path) -> None:
    results = generated(0)
    write_results(results, tmp_path, "isoflop grid grid=sizes")
    assert {path.name for path in tmp_path.iterdir()} == {"grid.json", "grid.md", "grid.png", "grid.svg"}
    facts = json.loads((tmp_path / "grid.json").read_text())["efficiency"]
    assert facts["against"] == "causal" and facts["objectives"]["masked"]["all_tasks"]["determined"]
    assert facts["objectives"]["masked"]["tasks"]["write"]["flop"]["low"] < 1.3
    page = (tmp_path / "grid.md").read_text()
    assert "## Times the pre-training of causal for the same score" in page and "| s3 | spans |" in page
    assert len({line.count("|") for line in page.split("##")[0].splitlines() if line.startswith("|")}) == 1
    picture = (tmp_path / "grid.svg").read_text()
    assert "FLOP of pre-training" in picture and "kWh, at the mean price" in picture
    assert [row["size"] for row in results_json(results)["rows"]][::3] == ["s1", "s2", "s3"]


def test_one_size_has_no_factors() -> None:
    results = generated(0)
    one = Results(results.grid, results.rows[:3], {}, None, None, points=results.points)
    assert efficiencies(one) == []
    assert "No efficiency factors: they need scores of causal at two sizes or more" in markdown(one, "isoflop grid")
