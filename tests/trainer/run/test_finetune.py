"""Tuning end to end: a run from a run, through the same loop, checkpoints and report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import isoflop as isoflop_package
from trainer.run.start import described
from trainer.run_folder import RunFolder
from trainer.training.checkpoint import valid_checkpoints
from trainer.utils.errors import UserError

WORDS = [f"word{number}" for number in range(30)]


@pytest.fixture(scope="module")
def isoflop(command, tmp_path_factory):
    return command(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def parent(tiny, isoflop):
    """A pre-trained decoder."""
    done = isoflop("train", *tiny, "run.id=parent", "run.experiment=made", "budget.steps=4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["measured"] and "step 4/4" in done.stderr  # the JSON alone, and the rest beside it
    return isoflop.folder / "runs" / "made" / "parent"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Is the word "yes" somewhere in the text?"""
    file = tmp_path_factory.mktemp("records") / "records.jsonl"
    lines = [{"text": f"{WORDS[n % 30]} {'yes' if n % 2 else 'no'} {WORDS[n % 7]}", "label": n % 2} for n in range(80)]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def task(records):
    return ["task.kind=sequence", "task.name=yes", f"task.train={records}", f"task.held_out={records}"]


def weights(run: Path):
    return next(valid_checkpoints(RunFolder(run).checkpoints)).weights()


def test_a_tuned_run_is_a_run(isoflop, parent, records):
    made = isoflop(
        "finetune", str(parent), *task(records), "run.id=a", "optim.lr=3e-3", "budget.steps=60", "optim.batch_size=16"
    )
    assert made.returncode == 0, made.stderr
    run = parent.parent.parent / "llama-mini-causal-yes" / "a"
    config = RunFolder(run).load_config()
    assert config.task.labels == ("0", "1") and config.task.parent == str(parent)
    before = RunFolder(parent).load_config()
    assert config.data.sequence_length < before.data.sequence_length == config.max_length
    for name in ("plan.json", "metrics.jsonl", "report.html", "pricetag.json", "card.md", "tokenizer.model"):
        assert (run / name).is_file(), name
    scores = json.loads((run / "task.json").read_text())
    assert scores["metrics"]["accuracy"] > 0.9 > scores["baselines"]["most frequent"]["accuracy"]
    assert "bag of words" in made.stdout and "accuracy" in made.stdout
    assert "80 records in 80 rows, 0 cut to fit" in made.stdout

    again = isoflop("eval", str(run), "--json")
    assert json.loads(again.stdout)["metrics"] == scores["metrics"]


@pytest.mark.slow
def test_it_begins_with_the_parents_weights_and_a_new_head(isoflop, parent, records):
    for name, scratch in (("still", "false"), ("anew", "true")):
        words = [*task(records), f"run.id={name}", "optim.lr=1e-30", "budget.steps=1", f"task.from_scratch={scratch}"]
        assert isoflop("finetune", str(parent), *words).returncode == 0
    runs = parent.parent.parent / "llama-mini-causal-yes"
    before, still, anew = weights(parent), weights(runs / "still"), weights(runs / "anew")
    assert set(still) == {f"body.{name}" for name in before if not name.startswith("head.")} | {"output.weight"}
    for name in (name for name in before if not name.startswith("head.")):
        assert torch.equal(still[f"body.{name}"], before[name]), name
    assert not torch.equal(anew["body.tokens.weight"], before["tokens.weight"])
    assert torch.equal(anew["output.weight"], still["output.weight"])


def test_a_resumed_tuning_goes_on_as_if_never_stopped(isoflop, parent, records):
    words = [*task(records), "optim.batch_size=16", "checkpoint.every_steps=2", "checkpoint.keep_last=9"]
    whole = [*words, "run.id=whole", "budget.steps=6"]
    assert isoflop("finetune", str(parent), *whole).returncode == 0
    runs = parent.parent.parent / "llama-mini-causal-yes"
    expected = weights(runs / "whole")
    for step in ("00000006", "00000004"):
        for file in (runs / "whole" / "checkpoints" / f"step-{step}").iterdir():
            file.unlink()
        (runs / "whole" / "checkpoints" / f"step-{step}").rmdir()
    resumed = isoflop("train", f"resume={runs / 'whole'}")
    assert resumed.returncode == 0, resumed.stderr
    assert all(torch.equal(value, expected[name]) for name, value in weights(runs / "whole").items())
    records.touch()
    changed = records.with_name("changed.jsonl")
    changed.write_text(records.read_text().replace("word1 ", "word2 "))
    other = isoflop("train", f"resume={runs / 'whole'}", f"task.train={changed}", "new_science=true")
    assert other.returncode == 2 and "changed since this run began" in other.stderr


def test_from_a_program(parent, records):
    words = [*task(records), f"run.root={parent.parent.parent}"]
    result = isoflop_package.finetune(parent, None, *words, steps=2, seed=3, quiet=True).scores()
    assert set(result["baselines"]) == {"bag of words", "most frequent"}
    assert RunFolder(Path(result["run"])).load_config().seed == 3


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["model.width=64"], "model.width: 64 given, the parent's weights are of 32"),
        (["task.labels=[0]"], "label: '1' is none of the 1 classes 0"),
    ],
)
def test_what_the_parent_or_the_head_cannot_hold(parent, records, words, wanted):
    with pytest.raises(UserError) as caught:
        described([f"from={parent}", *task(records), *words])
    assert wanted in str(caught.value)
    described([f"from={parent}", *task(records), "model.width=64", "task.from_scratch=true"])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["task=swaped"], "task=swaped: no such option (did you mean 'swapped'?)"),
        ([], "task: name one, e.g. task=swapped"),
    ],
)
def test_bad_words_are_refused_before_any_work(parent, words, wanted):
    with pytest.raises(UserError) as caught:
        described([f"from={parent}", *words])
    assert wanted in str(caught.value)
