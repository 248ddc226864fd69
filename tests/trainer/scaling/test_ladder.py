"""A ladder becomes the runs that its rules describe, or one line for each thing that is wrong."""

from __future__ import annotations

import json

import pytest

from trainer.books import flops, parameters
from trainer.books.run_length import run_tokens
from trainer.cli.main import main
from trainer.compose import compose, compose_ladder, groups
from trainer.scaling.ladder import planned_runs
from trainer.utils.errors import UserError

SIZES = "ladder.sizes=[100k,200k,400k]"
SMALL = ["ladder=chinchilla", "ladder.base=['model=llama-mini','data.sequence_length=64']", SIZES, "ladder.lr=null"]
SMALL += ["ladder.batch_size=null", "tokenizer.vocabulary=512"]


def tokens(run):
    return run_tokens(run.config)


def test_every_ladder_of_the_project_plans():
    for name in groups()["ladder"]:
        runs = planned_runs([f"ladder={name}"])
        assert len(runs) >= 3
        assert len({run.folder.path for run in runs}) == len(runs)


def test_the_words_of_a_run_describe_that_run():
    """`isoflop train <words>` is the same run: same science, same folder."""
    words = [*SMALL, "ladder.tokens_per_parameter=20", "ladder.seeds=[0,3]", "optim.schedule=wsd,cosine"]
    runs = planned_runs([*words, "ladder.lr={value: 1e-3, at: 100k, exponent: -0.3}", "ladder.parametrization=mup"])
    assert len(runs) == 12
    for run in runs[::5]:
        assert compose(run.words) == run.config


def test_chinchillas_rule():
    for run in planned_runs([*SMALL, "ladder.tokens_per_parameter=20"]):
        assert tokens(run) / parameters(run.config).total == pytest.approx(20, rel=0.01)


def test_fixed_tokens_are_a_product():
    runs = planned_runs([*SMALL, "ladder.tokens=[1m,4m]"])
    assert [tokens(run) for run in runs] == [pytest.approx(count, rel=1e-3) for count in (1e6, 4e6) * 3]


def test_an_isoflop_grid_spends_its_budgets():
    runs = planned_runs([*SMALL, "ladder.flops=[1e12,1e13]", "optim.batch_size=1"])
    assert len(runs) == 6
    for run in runs:
        assert flops(run.config).total == pytest.approx(1e12 if "c1e12" in run.name else 1e13, rel=0.01)


def test_a_grid_can_leave_out_what_is_far_from_the_optimum():
    words = [*SMALL, "ladder.sizes=[100k,200k,400k,800k,1.6m]", "ladder.flops=[3e12,1e13]"]
    runs = planned_runs([*words, "ladder.tokens_per_parameter_between=[2,60]"])
    assert all(1.9 <= tokens(run) / parameters(run.config).total <= 61 for run in runs)
    sizes = [{run.name.split("-")[0] for run in runs if budget in run.name} for budget in ("c3e12", "c1e13")]
    assert sizes[0] != sizes[1] and all(len(some) >= 3 for some in sizes)


def test_rules_for_learning_rate_batch_and_width():
    words = [*SMALL, "ladder.tokens_per_parameter=20", "ladder.lr={value: 2e-3, at: 100k, exponent: -0.5}"]
    runs = planned_runs([*words, "ladder.batch_size={value: 8, at: 2m, exponent: 0.5}", "ladder.parametrization=mup"])
    smallest = runs[0].config.model
    for run in runs:
        count = parameters(run.config).total
        assert run.config.optim.lr == pytest.approx(2e-3 * (count / 1e5) ** -0.5, rel=1e-3)
        assert run.config.optim.batch_size == round(8 * (20 * count / 2e6) ** 0.5)
        assert run.config.model.mup_base_width == smallest.width
    assert runs[0].config.model.width_growth == 1 < runs[-1].config.model.width_growth


def test_completep_starts_from_the_narrowest_rung_and_of_those_from_the_shallowest():
    sizes = (
        "ladder.sizes=['model.width=64 model.depth=6','model.width=32 model.depth=4','model.width=32 model.depth=2']"
    )
    words = [*SMALL, sizes, "ladder.tokens_per_parameter=20", "model.heads=2", "ladder.parametrization=completep"]
    runs = planned_runs(words)
    assert [run.config.model.depth_growth for run in runs] == [3, 2, 1]
    assert [run.config.model.width_growth for run in runs] == [2, 1, 1]
    assert all(run.config.model.mup_base_head_size == 16 for run in runs)
    assert compose(runs[0].words) == runs[0].config


def test_presets_and_words_are_rungs_too():
    words = ["ladder=chinchilla", "ladder.base=[]", "ladder.tokens_per_parameter=20", "ladder.batch_size=null"]
    runs = planned_runs([*words, "ladder.sizes=[gpt2-124m,'model=gpt2-124m model.depth=3',pythia-70m]"])
    assert [run.config.model.name for run in runs] == ["gpt2-124m", "gpt2-124m", "pythia-70m"]
    assert [run.config.model.depth for run in runs[:2]] == [12, 3]


def test_swept_values_name_stable_runs():
    first, second = (planned_runs(["seed=0,1", "optim.lr=1e-3,3e-3"]) for _ in range(2))
    assert [run.name for run in first] == [run.name for run in second]
    assert first[0].name.startswith("seed0-lr0.001-")
    other = planned_runs(["seed=0,1", "optim.lr=1e-3,3e-3", "budget.steps=9"])
    assert not {run.name for run in other} & {run.name for run in first}


LADDER = "ladder=chinchilla"
WRONG = [
    (["ladder=chinchila"], "ladder=chinchila: no such option (did you mean 'chinchilla'?)"),
    (["ladder.sizes=[1m,2m]"], "name the ladder too"),
    ([LADDER, "ladder.size=[1m]"], "ladder.size: no such key (did you mean 'ladder.sizes'?)"),
    (
        [LADDER, "ladder.lr={value: 1, at: 1, exponant: 1}"],
        "exponant: no such key (did you mean 'ladder.lr.exponent'?)",
    ),
    ([LADDER, "ladder.decay=0.1"], "ladder.decay: only branches read it; add ladder.branch"),
    ([LADDER, "ladder.sizes=[]"], "ladder.sizes: name the rungs"),
    ([LADDER, "ladder.sizes=[gpt2-124]"], "ladder.sizes: gpt2-124: no such preset (did you mean 'gpt2-124m'?)"),
    ([LADDER, "ladder.sizes=[1m,1m]"], "ladder.sizes: 1m given twice"),
    ([LADDER, "ladder.seeds=[]"], "ladder.seeds: at least one"),
    ([LADDER, "ladder.tokens=[1m]", "ladder.flops=[1e15]"], "exactly one of tokens_per_parameter, tokens and flops"),
    ([LADDER, "ladder.lr={value: -1}"], "ladder.lr.value: -1 given, greater than 0 wanted"),
    ([LADDER, "ladder.parametrization=mpu"], "did you mean 'mup'?"),
    ([LADDER, "seed=3"], "seed=3: the ladder states it; set ladder.seeds"),
    ([LADDER, "model.size=3m"], "model.size=3m: the ladder states it; set ladder.sizes"),
    ([LADDER, "optim.lr=1e-3"], "optim.lr=1e-3: the ladder states it; set ladder.lr"),
    ([LADDER, "launch=nowhere"], "launch=nowhere: no such option"),
    (
        [LADDER, "ladder.flops=[1e6]"],
        "1e+06 leaves no size, and a parabola needs 3 sizes; one sequence of the smallest",
    ),
    ([LADDER, "ladder.flops=[1e18]", "ladder.tokens_per_parameter_between=[30,10]"], "is no range"),
    (["seed=0,1", "run.id=same"], "2 runs would share"),
    ([LADDER, "jobs=many"], "jobs: 'many' given, a whole number wanted"),
    (["seed=0,1", "jobs=0"], "jobs: 0 given"),
    ([LADDER, "--fast"], "--fast: no such option"),
]


@pytest.mark.parametrize("words, said", WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_bad_input_is_one_line(words, said, capsys):
    assert main(["sweep", *words]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("isoflop: ")]
    assert len(errors) == 1 and said in errors[0], errors


def test_all_errors_at_once():
    with pytest.raises(UserError) as error:
        compose_ladder(["ladder=chinchilla", "ladder.sizes=[]", "ladder.name='../up'", "ladder.seeds=[-1]"])
    assert len(str(error.value).splitlines()) == 3


def test_train_refuses_a_ladder(capsys):
    assert main(["train", "ladder=chinchilla"]) == 2
    assert "this is many runs; isoflop sweep takes it" in capsys.readouterr().err


def test_the_plan_is_one_table_with_the_sum(capsys):
    assert main(["sweep", "ladder=chinchilla", "--plan", "--json", "machine=h100-sxm"]) == 0
    plan = json.loads(capsys.readouterr().out)
    total = plan["total"]["flop.total"]
    rows = [next(row for row in run["rows"] if row["key"] == "flop.total") for run in plan["runs"]]
    assert total["value"] == pytest.approx(sum(row["planned"]["value"] for row in rows))
    assert total["known"] == 6 and plan["total"]["time.wall"]["value"] > 0


def test_much_work_is_not_started_without_a_word(capsys):
    assert main(["sweep", "ladder=chinchilla"]) == 2  # pytest's stdin is no terminal
    assert "add --yes" in capsys.readouterr().err.splitlines()[-1]
