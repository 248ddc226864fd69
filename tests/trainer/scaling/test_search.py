"""A search comes to good settings, says what is wrong in one line, and ends alike whether or not it was killed."""

from __future__ import annotations

import csv
import json
import math
import random
import sys

import pytest

from trainer.cli.main import main
from trainer.utils.errors import UserError

RATE = "optim.lr=tag(log,interval(1e-5,1e-1))"
SAME = ("run", "status", "parameters", "tokens", "flop", "loss", "bits_per_byte")


def bowl(params):
    """Lowest, 0, at lr = 10^-2.5 and depth 7; diverges where the learning rate is high."""
    if params["optim.lr"] > 3e-2:
        return math.inf
    return (math.log10(params["optim.lr"]) + 2.5) ** 2 + (params["model.depth"] - 7) ** 2 / 20


def searched(ranges, trials, jobs=1):
    from trainer.scaling.search import propose

    known = []
    while len(known) < trials:
        known += [(params, bowl(params)) for params in propose(ranges, known, jobs)]
    return known


@pytest.mark.parametrize("jobs", [1, 4])
def test_it_finds_what_chance_does_not(jobs):
    pytest.importorskip("optuna")
    from trainer.scaling.search import read_space

    ranges = read_space("optuna", 40, [RATE, "model.depth=int(interval(1,40))"]).ranges
    known = searched(ranges, 40, jobs)
    chance = random.Random(0)
    draws = ({"optim.lr": 10 ** chance.uniform(-5, -1), "model.depth": chance.randint(1, 40)} for _ in range(4000))
    losses = [bowl(draw) for draw in draws]
    by_chance = sorted(min(losses[start : start + 40]) for start in range(0, 4000, 40))
    assert min(loss for _, loss in known) < by_chance[50]
    assert known == searched(ranges, 40, jobs)  # what follows from the same results is the same
    assert all(1e-5 <= params["optim.lr"] <= 1e-1 and 1 <= params["model.depth"] <= 40 for params, _ in known)


def test_a_failed_run_says_nothing_of_its_settings():
    pytest.importorskip("optuna")
    from trainer.scaling.search import propose, read_space

    ranges = read_space("optuna", 2, [RATE, "model.depth=2,4"]).ranges
    assert propose(ranges, [({"optim.lr": 1e-3, "model.depth": "2"}, None)], 2)


def test_ranges_in_hydras_grammar():
    distributions = pytest.importorskip("optuna").distributions
    from trainer.scaling.search import read_space

    words = [RATE, "model.depth=int(interval(1,8))", "model.width=range(64,257,64)", "optim.clip=0.5,null", "seed=3"]
    space = read_space("optuna", 2, words)
    assert space.ranges == {
        "optim.lr": distributions.FloatDistribution(1e-5, 1e-1, log=True),
        "model.depth": distributions.IntDistribution(1, 8),
        "model.width": distributions.IntDistribution(64, 256, step=64),
        "optim.clip": distributions.CategoricalDistribution(("0.5", "null")),
    }
    assert space.fixed == ("seed=3", "run.experiment=search")
    for run in space.sample(2):
        assert run.config.optim.clip in (0.5, None) and run.config.seed == 3 and run.config.model.width % 64 == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search=optuna"], "search: no range is given"),
        (["search=optuna", "trials=0", RATE], "trials: 0 given, 1 to 10000 wanted"),
        (["search=optuna", "trials=few", RATE], "trials: 'few' given, a whole number wanted"),
        (["search=optun", RATE], "did you mean 'optuna'?"),
        (["trials=3", RATE], "add search=optuna"),
        ([RATE], "search=optuna draws from it"),
        (["search=optuna", "ladder=cpu", RATE], "leave it out"),
        (["search=optuna", "model=glob(gpt2*)"], "name the options"),
        (["model=glob(gpt2*)"], "name the options"),
        pytest.param(["search=optuna", "optim.lr=interval(2,1)"], "optim.lr=interval(2,1): ", id="backwards"),
        pytest.param(["search=optuna", "optim.lr=tag(log,choice(1,2))"], "log scale", id="log choice"),
        pytest.param(["search=optuna", RATE, "launch=slurm"], "launch=slurm: ", id="slurm"),
    ],
)
def test_bad_input_is_one_line(words, said, capsys, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("isoflop: ")]
    assert said in line and not list(tmp_path.iterdir())


def test_a_missing_library_is_one_line(monkeypatch):
    from trainer.scaling.search import read_space

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"needs the extra: pip install 'isoflop\[search\]'"):
        read_space("optuna", 2, [RATE])


def test_killed_it_goes_on_to_the_same_end(tiny, isoflop, tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    quick = ["evaluation.every_steps=null", "budget.steps=3", "optim.lr=tag(log,interval(1e-4,1e-1))"]
    given = {word.partition("=")[0] for word in quick}
    words = [word for word in tiny if word.partition("=")[0] not in given]
    words = ["sweep", "search=optuna", "trials=3", *words, *quick]

    def table(name):
        with open(tmp_path / "runs" / name / "sweep.csv") as file:
            return [tuple(row[column] for column in SAME) for row in csv.DictReader(file)]

    whole = isoflop(*words, "run.experiment=whole")
    assert whole.returncode == 0, whole.stderr
    assert {row[1] for row in table("whole")} == {"finished"} and len(table("whole")) == 3
    best = min(float(row[5]) for row in table("whole"))
    assert f"best of 3: held-out loss {best:.4f} with optim.lr=" in whole.stdout

    isoflop.kill_when(lambda text: "(1/3)" in text, *words, "run.experiment=killed", poll=0.02)
    resumed = isoflop(*words, "run.experiment=killed")
    assert resumed.returncode == 0 and "1 of 3 runs are finished already" in resumed.stderr, resumed.stderr
    assert table("killed") == table("whole")

    record = tmp_path / "runs" / "killed" / "search.json"
    before = json.loads(record.read_text())
    assert len(before["trials"]) == 3
    monkeypatch.chdir(tmp_path)
    assert main([*words[:-1], "optim.lr=interval(1e-4,1e-1)", "run.experiment=killed"]) == 2
    assert "a search of other ranges" in capsys.readouterr().err
    assert main([*words, "optim.schedule=wsd", "run.experiment=killed"]) == 2
    assert "choose another run.experiment" in capsys.readouterr().err
    assert json.loads(record.read_text()) == before
