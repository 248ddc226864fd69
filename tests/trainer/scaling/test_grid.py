"""The grid of objectives: equal budgets, one table, and the same table after a kill."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from run_folders import step_line, write_lines

from trainer.books import flops, plan
from trainer.books.run_length import run_steps, run_tokens
from trainer.cli.main import main
from trainer.config import Config, GridConfig
from trainer.scaling.grid import planned_grid, read_results, results_json, write_results
from trainer.scaling.grid.plan import Cell, Trial, possible
from trainer.scaling.grid.text import format_results, markdown, table_of
from trainer.scaling.ladder import PlannedRun
from trainer.scaling.statistics import student_quantile
from trainer.utils.errors import UserError

OBJECTIVES = {
    "causal",
    "prefix",
    "masked",
    "permuted",
    "masked seq2seq",
    "token masking",
    "token deletion",
    "text infilling",
    "sentence permutation",
    "document rotation",
    "infilling + permutation",
    "span corruption",
}


def test_every_objective_has_the_same_budget_data_tokenizer_and_seeds() -> None:
    grid, cells = planned_grid(["grid=cpu"])
    assert set(grid.objectives) == OBJECTIVES and len(cells) == 36
    assert grid.flop is not None
    for cell in cells:
        account = flops(cell.run.config)
        assert account.total <= grid.flop < account.total + account.per_step, cell.objective
        assert cell.run.config.data == cells[0].run.config.data
        assert cell.run.config.tokenizer == cells[0].run.config.tokenizer
        assert cell.run.config.optim == cells[0].run.config.optim
    for objective in OBJECTIVES:
        assert [cell.run.config.seed for cell in cells if cell.objective == objective] == [0, 1, 2]
    assert len({cell.run.folder.path for cell in cells}) == 36
    assert {cell.run.config.model.family for cell in cells} == {"decoder", "encoder", "encoder_decoder"}


def test_another_budget_takes_the_place_of_the_files_own() -> None:
    grid, cells = planned_grid(["grid=families", "grid.tokens=100k", "grid.seeds=[3]", "optim.lr=1e-4"])
    assert (grid.flop, grid.tokens) == (None, 100_000)
    assert {run_tokens(cell.run.config) for cell in cells} == {-(-100_000 // 2048) * 2048}
    assert {cell.run.config.optim.lr for cell in cells} == {1e-4}


def test_nothing_waits_for_no_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", "grid=cpu", "jobs=0"]) == 2
    assert "jobs: 0 given, 1 or more wanted" in capsys.readouterr().err


def test_encoders_are_not_asked_to_write() -> None:
    _, cells = planned_grid(["grid=families"])
    able = {cell.objective: possible(cell.run.config, ["task=docstrings"]) for cell in cells}
    assert able == {"causal": True, "masked": False, "span corruption": True}
    assert all(possible(cell.run.config, ["task=swapped"]) for cell in cells)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["grid=cpus"], "no such option"),
        ([], "grid: name one, with grid=...; there is cpu, families, lab, sizes"),
        (
            ["grid=cpu", "grid.flop=1e12", "grid.tokens=1m"],
            "state exactly one budget of flop, kwh, tokens and tokens_per_parameter",
        ),
        (["grid=cpu", "grid.flop=10"], "budget.flop: 10 given, one step takes"),
        (["grid=cpu", "grid.seeds=[1,1]"], "different whole numbers"),
        (["grid=cpu", "seed=3"], "seed=3: the grid states it; set grid.seeds"),
        (["grid=cpu", "grid.tasks=[swapped]"], "grid.tasks: [a list] given, {name: value} wanted"),
        (["grid=cpu", "grid.flops=1e9"], "did you mean 'grid.flop'"),
        (["grid=families", "grid.objectives.masked=['objective=masked_lm']"], "objective=masked_lm trains encoder"),
    ],
)
def test_wrong_grids_are_refused_in_a_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", *words, "--plan"]) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error


def left(run: PlannedRun, loss: float, scores: dict[str, float] | None = None) -> None:
    """A folder as a finished run leaves it."""
    folder, config = run.folder, run.config
    folder.path.mkdir(parents=True)
    folder.config.write_text(config.to_yaml())
    folder.plan.write_text(json.dumps(plan(config).to_json()))
    last = run_steps(config)
    lines = [step_line(config, step, targets=100) for step in (1, last)]
    evaluation = {"kind": "evaluation", "step": last, "tokens": 1, "loss": loss, "bits_per_byte": None, "targets": 9}
    write_lines(folder.metrics, [*lines, {**evaluation, "seconds": 1.0, "attempt": 0}])
    if scores is not None:
        beside = {"bag of words": {"accuracy": 0.6}}
        (folder.path / "task.json").write_text(json.dumps({"metrics": scores, "baselines": beside}))


SCORES = {"causal": (0.70, 0.72, 0.71), "masked": (0.80, 0.70, 0.75), "span corruption": (0.60, 0.61, 0.62)}


@pytest.fixture
def made(tmp_path: Path) -> tuple[GridConfig, list[Cell], list[Trial]]:
    """A grid whose runs have all been left on disk but one."""
    task = "grid.tasks.write={words:['task=docstrings'],score:perplexity}"
    grid, cells = planned_grid(["grid=families", "grid.seeds=[0,1,2]", task, f"run.root={tmp_path}"])
    grid = grid.model_copy(update={"tasks": {name: grid.tasks[name] for name in ("swapped", "write")}})
    trials = []
    for cell in cells:
        left(cell.run, 3.0)
        for name in ("swapped", "write"):
            if name == "write" and cell.objective == "masked":
                continue
            config = tuning_of(cell.run.config, f"{cell.run.name}-on-{name}")
            trial = Trial(cell, name, PlannedRun((), config))
            trials.append(trial)
            if (cell.objective, cell.seed, name) != ("causal", 2, "write"):
                left(trial.run, math.log(20 + cell.seed), {"accuracy": SCORES[cell.objective][cell.seed]})
    return grid, cells, trials


def tuning_of(config: Config, name: str) -> Config:
    run = config.run.model_copy(update={"id": name})
    return config.ending_after(4).model_copy(update={"run": run})


def test_the_table_has_means_intervals_the_best_and_prices(
    made: tuple[GridConfig, list[Cell], list[Trial]], tmp_path: Path
) -> None:
    results = read_results(*made)
    causal, masked, spans = results.rows
    score = causal.scores["swapped"]
    assert score is not None and score.mean == pytest.approx(0.71)
    assert score.half_width == pytest.approx(student_quantile(2) * 0.01 / 3**0.5)
    assert [row.scores["swapped"].best for row in results.rows if row.scores["swapped"]] == [False, True, False]
    assert masked.scores["write"] is None
    writes = [row.scores["write"] for row in (causal, spans)]
    assert [pytest.approx(score.mean) for score in writes if score] == [20.5, 21.0]
    assert writes[0] is not None and writes[0].best  # perplexity: less is better
    assert causal.unfinished == ("causal-s2-on-write",)
    cells = [cell for cell in made[1] if cell.objective == "causal"]
    assert causal.costs["flop"] == pytest.approx(sum(flops(cell.run.config).total for cell in cells))
    assert causal.costs["kwh"] is None and results.total("kwh") is None
    assert causal.targets_per_step == 100

    text = format_results(results)
    assert "*75.0 ±12.4*" in text and "causal-s2-on-write" in text and "bag of words" in text
    page = markdown(results, "isoflop grid grid=families")
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3 + 1 and "**75.0 ±12.4**" in page
    assert len({line.count("|") for line in table}) == 1
    assert table_of(results, str)[2][5] == "-"

    write_results(results, tmp_path / "out", "isoflop grid grid=families")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"grid.json", "grid.md", "grid.png", "grid.svg"}
    facts = json.loads((tmp_path / "out" / "grid.json").read_text())
    assert facts["rows"][1]["scores"]["swapped"]["values"] == list(SCORES["masked"])
    assert results_json(results)["rows"][0]["objective"] == "causal"


def test_a_budget_in_energy_needs_no_estimate() -> None:
    _, cells = planned_grid(["grid=families", "grid.kwh=0.001", "grid.seeds=[0]"])
    assert {cell.run.config.budget.kwh for cell in cells} == {0.001}
    with pytest.raises(UserError, match=r"state budget\.steps too"):
        run_steps(cells[0].run.config)


@pytest.mark.slow
def test_killed_and_started_again_it_gives_the_same_table(isoflop, tiny: list[str]) -> None:
    """Killed in pre-training and in tuning: the same command goes on, and ends as if nothing had been."""
    quick = [word for word in tiny if not word.startswith(("model.", "budget.", "tracker.", "data.sequence"))]
    words = ["grid", "grid=families", "grid.seeds=[0]", "grid.flop=3e9", "grid.tuning=['budget.steps=6']", *quick]
    words += ["data.sequence_length=64", "~grid.tasks.packages", "jobs=2"]

    def scores(root: str) -> object:
        done = isoflop(*words, f"run.root={root}", "--json", timeout=900)
        assert done.returncode == 0, done.stderr
        return [row["scores"] for row in json.loads(done.stdout)["rows"]]

    whole = scores("whole")
    isoflop.kill_when(lambda text: "masked-s0: started" in text, *words, "run.root=killed", poll=0.2)
    isoflop.kill_when(lambda text: "causal-s0-on-swapped: started" in text, *words, "run.root=killed", poll=0.2)
    again = isoflop(*words, "run.root=killed", timeout=900)
    assert "causal-s0: started" not in again.stderr  # what had finished is not repeated
    assert scores("killed") == whole
