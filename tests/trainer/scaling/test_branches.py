"""A ladder with branches: a trunk a size, a branch for each of its horizons, and the order in which they can begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.books import format_plans, parameters, plan_row
from trainer.books.run_length import run_steps, run_tokens
from trainer.cli.main import main
from trainer.compose import compose
from trainer.scaling.ladder import planned_runs
from trainer.scaling.sweep import run_all, train_all
from trainer.utils.checkpoint_files import folder_of

SMALL = ["ladder=chinchilla", "ladder.base=['model=llama-mini','data.sequence_length=64']", "ladder.lr=null"]
SMALL += ["ladder.batch_size=null", "tokenizer.vocabulary=512", "ladder.sizes=[100k,200k]"]
RULE = "ladder.tokens_per_parameter=20"
HALVES = "ladder.branch=[0.0625,0.125,0.25,0.5,1]"


@pytest.fixture
def words(tmp_path):
    return [*SMALL, RULE, f"run.root={tmp_path}"]


def freeze(run):
    run.folder.path.mkdir(parents=True)
    run.folder.config.write_text(run.config.to_yaml())


def test_a_size_is_trained_once_and_annealed_at_every_horizon(words):
    runs = planned_runs([*words, "ladder.branch=[0.25,0.5,1]", "ladder.decay={shape: sqrt, share: 0.1}"])
    assert len(runs) == 2 * 4
    for trunk, *branches in (runs[:4], runs[4:]):
        count, length = parameters(trunk.config).total, run_steps(branches[-1].config)
        assert [run_tokens(one.config) / count for one in branches] == pytest.approx([5, 10, 20], rel=0.02)
        for one in branches:
            steps, step = run_steps(one.config), one.config.branch.step
            assert steps - step == round(0.1 * steps) and step in trunk.config.checkpoint.at_steps
            assert one.config.branch.run == str(trunk.folder.path)
            assert one.config.optim.pieces[-1].shape == "sqrt"
        assert run_steps(trunk.config) == branches[-1].config.branch.step < length
        assert trunk.config.optim.schedule == "constant"


def test_horizons_in_the_unit_of_the_rule_are_the_same_runs(words):
    shares = planned_runs([*words, "ladder.branch=[0.25,0.5,1]"])
    amounts = planned_runs([*words, "ladder.branch=[5,10,20]"])
    assert all(
        abs(run_steps(one.config) - run_steps(same.config)) <= 1 for one, same in zip(amounts, shares, strict=True)
    )
    fixed = [word for word in words if word != RULE] + ["ladder.tokens=1m", "ladder.branch=[250k,1m]"]
    assert [run_tokens(one.config) for one in planned_runs(fixed)[1:3]] == pytest.approx([250_000, 1_000_000], rel=0.01)


def test_the_words_of_a_run_describe_that_run(words):
    runs = planned_runs([*words, HALVES])
    freeze(runs[0])
    for run in runs[:3]:
        assert compose(run.words) == run.config


def test_five_horizons_cost_at_most_0_65_of_five_runs(words):
    said = format_plans([plan_row(run.name, run.config) for run in planned_runs([*words, HALVES])]).splitlines()
    assert said[-1].startswith("10 runs by branches: ")
    shared, alone = 0.8 + 0.2 * (1 + 0.5 + 0.25 + 0.125 + 0.0625), 1 + 0.5 + 0.25 + 0.125 + 0.0625
    assert f"{shared / alone:.2f} of training each by itself" in said[-1] and shared / alone < 0.65
    assert said[-2].startswith("without branches")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["ladder.branch=[0.5,2,30]"], "is beyond the"),
        (["ladder.branch=[1e-9,1]"], "leaves no rate to decay from"),
        (["ladder.branch=[0,1]"], "branch: 0 given, more than 0 wanted"),
        (["ladder.branch=[0.5,0.5]"], "branch: 0.5 given twice"),
        (["ladder.branch=[1]", "optim.schedule=wsd"], "optim.schedule=wsd: ladder.branch states it"),
        (["ladder.branch=[1]", "ladder.decay=0"], "ladder.decay.steps: 0 given"),
        (["ladder.branch=[1]", "ladder.decay={share: 0.1, steps: 3}"], "state exactly one of steps, share, tokens"),
    ],
)
def test_bad_input_is_one_line(words, given, said, capsys):
    assert main(["sweep", *words, "ladder.sizes=[100k]", *given, "--plan"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_branch_begins_once_its_trunks_checkpoint_is_there(words, tmp_path, capfd):
    runs = planned_runs([*words, "ladder.branch=[0.5,1]"])
    ends = {run.name: run.config.branch.step for run in runs if run.config.branch.given}
    trunks = [run for run in runs if not run.config.branch.given]

    def start(given):
        (run,) = (word.partition("=")[2] for word in given if word.startswith("run.id="))
        with open(tmp_path / "order", "a") as order:
            order.write(f"{run}\n")
        if run == trunks[1].name:
            raise ValueError("lost")
        for trunk in trunks[:1]:
            for step in trunk.config.checkpoint.at_steps if run == trunk.name else ():
                folder_of(trunk.folder.checkpoints, step).mkdir(parents=True)
        return 0

    failures, stopped = run_all(list(reversed(runs)), start, jobs=1, retries=0)
    order = (tmp_path / "order").read_text().split()
    assert order.index(trunks[0].name) < min(order.index(one) for one in ends if one in order)
    assert len(order) == 4 and not stopped
    lost = {failure.run.name: failure.text for failure in failures}
    assert (
        len(lost) == 3 and sum(f"its trunk {trunks[1].name} has no checkpoint" in text for text in lost.values()) == 2
    )


def test_under_slurm_branches_are_an_array_behind_that_of_their_trunks(words, tiny, tmp_path, monkeypatch, capsys):
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho x >> {tmp_path}/calls\nwc -l < {tmp_path}/calls | tr -d ' '\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    of_text = [word for word in tiny if word.startswith(("data=", "data.path", "run.cache"))]
    runs = planned_runs([*words, "ladder.branch=[0.5,1]", "launch=slurm", "launch.sbatch=['--nice=5']", *of_text])
    assert train_all(runs) == 0
    first, second = ((tmp_path / "chinchilla" / name / "job.sh").read_text() for name in (".array", ".branches"))
    assert "--dependency" not in first and "#SBATCH --dependency=afterany:1\n" in second
    for run in runs:
        script = second if run.config.branch.given else first
        assert str(run.folder.path) in script and Path(run.folder.config).is_file()
    assert "--nice=5" in first and "--nice=5" in second
