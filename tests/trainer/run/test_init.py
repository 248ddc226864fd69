"""Continued pre-training: a new run from old weights, end to end and by its parts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import isoflop as isoflop_package
from trainer.compose import change, compose
from trainer.config import TokenizerConfig
from trainer.data import Tokenizer
from trainer.data.tokenizer import train
from trainer.generation.loaded_model import load_model
from trainer.run.continued import fitted
from trainer.run.start import check_run, composed, described, ready, ready_config
from trainer.run_folder import RunFolder
from trainer.training.checkpoint import open_weights, valid_checkpoints
from trainer.utils.errors import UserError


def of_the_run(tiny):
    """The words of `tiny` that are not taken over from a parent."""
    return [word for word in tiny if not word.startswith(("model.", "tokenizer.", "budget.", "evaluation."))]


@pytest.fixture(scope="module")
def home(command, tmp_path_factory):
    return command(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def parent(tiny, home):
    """A pre-trained decoder of 512 pieces."""
    done = home("train", *tiny, "run.id=parent", "run.experiment=made", "budget.steps=8", "evaluation.every_steps=8")
    assert done.returncode == 0, done.stderr
    return home.folder / "runs" / "made" / "parent"


@pytest.fixture
def words(tiny, home):
    return [*of_the_run(tiny), f"run.root={home.folder / 'runs'}", "run.experiment=next", "budget.steps=4"]


def weights(run: Path):
    return next(valid_checkpoints(RunFolder(run).checkpoints)).weights()


def records(run: Path, kind: str):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


# --- a run from a run ---


def test_it_begins_where_its_parent_ended(home, parent, words):
    still = ["run.id=still", "optim.lr=1e-30", "budget.steps=1"]
    done = home("train", f"init={parent}", *words, *still)
    assert done.returncode == 0, done.stderr
    run = parent.parent.parent / "next" / "still"
    assert records(run, "evaluation")[0]["loss"] == records(parent, "evaluation")[-1]["loss"]
    assert all(torch.equal(value, weights(parent)[name]) for name, value in weights(run).items())
    lineage = json.loads((run / "lineage.json").read_text())
    assert (lineage["run"], lineage["step"], lineage["rows"]) == ("made/parent", 8, None)
    assert lineage["science_hash"] == RunFolder(parent).load_config().science_hash()
    assert lineage["price"]["machine"]["device_hours"] > 0
    own = json.loads((run / "pricetag.json").read_text())
    assert own["planned"]["data"]["steps"] == 1 and any("made/parent" in note for note in own["notes"])
    assert "weights of made/parent at step 8" in (run / "card.md").read_text()
    assert any(json.loads(line)["name"] == "init" for line in (run / "events.jsonl").read_text().splitlines())
    task = ["task.kind=text", f"task.train={run / 'metrics.jsonl'}", "task.text=[kind]", "task.answer=[kind]"]
    assert not composed([f"from={run}", *task])[0].init.given  # a tuned run begins from task.parent
    line = json.loads((run.parent.parent / "ledger.jsonl").read_text().splitlines()[-1])
    assert line["init"] == {"run": "made/parent", "step": 8, "weights": lineage["weights"]}


def test_two_ranks_at_zero_3_go_on_as_one_does_without_the_parent(home, parent, words):
    gone = parent.parent / "gone"
    shutil.copytree(parent, gone)
    for name, more in (("one", []), ("two", ["launch.processes=2", "engine.zero_stage=3"])):
        ready([f"init={gone}", *words, f"run.id={name}", *more])
    shutil.rmtree(gone)
    runs = parent.parent.parent / "next"
    for name in ("one", "two"):
        done = home("train", f"resume={runs / name}")
        assert done.returncode == 0, done.stderr
    losses = [[record["loss"] for record in records(runs / name, "step")] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[0][0] < 0.98 * records(parent, "step")[0]["loss"]  # not from random weights


@pytest.mark.slow
def test_killed_and_resumed_it_is_what_it_would_have_been(home, parent, words):
    words = [*words, "checkpoint.every_steps=2", "budget.steps=40"]
    assert home("train", f"init={parent}", *words, "run.id=whole").returncode == 0
    home.kill_when(lambda said: "saved step-00000002" in said, "train", f"init={parent}", *words, "run.id=killed")
    runs = parent.parent.parent / "next"
    shutil.rmtree(runs / "killed" / "init")  # a checkpoint of its own is enough
    done = home("train", f"resume={runs / 'killed'}")
    assert done.returncode == 0, done.stderr
    expected = weights(runs / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in weights(runs / "killed").items())


def test_it_takes_over_what_is_not_given(parent, words, tmp_path):
    before, config = RunFolder(parent).load_config(), compose([f"init={parent}", *words])
    assert (config.model.width, config.model.depth, config.vocabulary) == (32, 2, before.vocabulary)
    assert config.objective == before.objective and config.budget.steps == 4
    assert config.tokenizer.path == str(parent / "tokenizer.model")
    assert config.optim == compose(words).optim
    longer = compose([f"init={parent}", *words, "data.sequence_length=64", "model.rotary_base=5e5", "objective=fim"])
    assert (longer.data.sequence_length, longer.model.rotary_base, longer.objective.name) == (64, 5e5, "fim")
    experiment = tmp_path / "experiment"
    experiment.mkdir()
    (experiment / "more.yaml").write_text(f"# @package _global_\ninit: {parent}@4\noptim: {{lr: 1e-4}}\n")
    said = isoflop_package.compose(["experiment=more", *words], config_dir=tmp_path)
    assert (said.init.step, said.optim.lr, said.model.width) == (4, 1e-4, 32)


def test_its_identity_is_in_the_weights_not_in_their_place(parent, words, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(parent, copy)
    one, other = (compose([f"init={run}", *words]) for run in (parent, copy))
    assert one.init != other.init and one.science_hash() == other.science_hash()
    assert compose([f"init={parent}@4", *words]).science_hash() != one.science_hash()
    assert compose(words).science_hash() not in (one.science_hash(), change(one, ["seed=1"]).science_hash())
    own_file = compose([f"init={parent}", *words, f"tokenizer.path={copy / 'tokenizer.model'}"])
    assert own_file.science_hash() == one.science_hash()
    config = compose([f"init={copy}", *words, f"run.root={tmp_path}", "run.id=moved"])
    stale = tmp_path / "next" / "moved" / "init" / "step-00000000"  # as of a command that was killed half-way
    stale.mkdir(parents=True)
    folder = ready_config(config)
    assert open_weights(stale).manifest["science"] == config.science_hash()
    written = stale.stat().st_mtime_ns
    assert ready_config(config).path == folder.path and stale.stat().st_mtime_ns == written
    shutil.rmtree(copy)
    assert folder.load_config().science_hash() == config.science_hash() == one.science_hash()


def test_a_damaged_checkpoint_is_passed_over(parent, words, tmp_path, capsys):
    copy = tmp_path / "damaged"
    shutil.copytree(parent, copy)
    file = copy / "checkpoints" / "step-00000008" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert compose([f"init={copy}", *words]).init.step == 4
    assert "checkpoint of step 8 is damaged" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"step 8 is damaged .*; there is 4$"):
        compose([f"init={copy}@8", *words])


# --- another tokenizer ---


def test_rows_are_copied_by_piece_and_new_ones_are_the_mean(untrained, small_tokenizer, tmp_path):
    parent, new = untrained(tied=False), tmp_path / "new.model"
    new.write_bytes(train(["the class of an import\ndef self return not in\n" * 50], TokenizerConfig(vocabulary=420)))
    config = compose([f"init={parent}", f"tokenizer.path={new}", "data.sequence_length=64"])
    before = RunFolder(parent).load_config()
    old = weights(parent)
    taken, rows = fitted(old, before, config, small_tokenizer, new)
    theirs, ours = Tokenizer(small_tokenizer), Tokenizer(new)
    assert config.vocabulary == 448 and config.init.tokenizer is None
    known = 0
    for name in ("tokens.weight", "head.weight"):
        mean = old[name][: theirs.vocabulary].mean(0)
        for token in range(config.vocabulary):
            same = theirs.id_of(ours.piece(token)) if token < ours.vocabulary else None
            known += same is not None
            assert torch.equal(taken[name][token], mean if same is None else old[name][same])
    assert rows == {"all": 448, "by_piece": known // 2, "new": 448 - known // 2}
    assert 380 < rows["by_piece"] < 420  # all fixed pieces and bytes, and some words
    assert all(torch.equal(taken[name], old[name]) for name in old if name not in ("tokens.weight", "head.weight"))


def test_the_run_says_how_many_rows_are_new(parent, words, tmp_path, capsys):
    given = ["tokenizer.vocabulary=460", f"run.root={tmp_path}", "run.id=other"]
    config, folder = ready([f"init={parent}", *words, *given])
    said = re.search(
        r"init: .* at step 8; (\d+) of 512 rows by piece, (\d+) new rows from the mean", capsys.readouterr().out
    )
    rows = json.loads(folder.lineage.read_text())["rows"]
    assert said and rows == {"all": 512, "by_piece": int(said[1]), "new": int(said[2])}
    assert rows["by_piece"] + rows["new"] == 512 and rows["new"] >= 52  # 460 pieces, rounded up
    first = open_weights(folder.initial / "step-00000000").weights()["tokens.weight"]
    assert first.shape == (512, 32) and config.init.tokenizer is None
    assert not (folder.path / "hub").exists()


def test_more_rows_for_the_same_tokenizer(parent, words):
    config = compose([f"init={parent}", *words, "model.vocabulary=576"])
    old, file = weights(parent), parent / "tokenizer.model"
    taken, rows = fitted(old, RunFolder(parent).load_config(), config, file, file)
    assert rows == {"all": 576, "by_piece": 512, "new": 64}
    assert torch.equal(taken["tokens.weight"][:512], old["tokens.weight"])
    assert torch.equal(taken["tokens.weight"][512:], old["tokens.weight"].mean(0).expand(64, -1))


# --- what is refused, each in one line ---


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["init="], "init: name a run"),
        (["init=nowhere"], "init: nowhere: no run folder of that name"),
        (["init=hub:gpt2"], "init: hub:gpt2 is no run yet; isoflop import hub:gpt2 to=<folder> makes one"),
        (["init=TRANSFORMERS"], "is no run yet; isoflop import"),
        (["init=PARENT/config.yaml"], "is a file; name the folder of a run"),
        (["init=PARENT/checkpoints/step-00000004"], "is a checkpoint; name its run: init=PARENT@4"),
        (["init=PARENT@5"], "has no checkpoint of step 5; there is 4, 8"),
        (["init=NEW"], "has no checkpoint yet"),
        (["init={step: 3}"], "run: name the run"),
        (["init=PARENT", "model.width=64"], "model.width: 64 given, the weights of init=PARENT have 32"),
        (["init=PARENT", "model.size=1m"], "model.size: the weights of init=PARENT have their size already"),
        (["init=PARENT", "model.vocabulary=400"], "model.vocabulary: 400 is smaller than the 512 pieces"),
        (["init=PARENT", "objective=masked_lm"], "objective=masked_lm trains encoder models"),
        (["init=PARENT", "task=swapped"], "init: begins pre-training anew; isoflop finetune"),
        (["init=PARENT", "resume=PARENT"], "init: a run that is resumed has its weights already"),
        (["init=PARENT", "from=PARENT", "task=swapped"], "init: a run that is tuned begins from those weights"),
        (["init=PARENT", "model.dept=3"], "model.dept: no such key (did you mean 'model.depth'?)"),
        (["init=PARENT", "model=[a]"], "model"),
        (["init=PARENT", "optim.lrr=1"], "optim.lrr: no such key (did you mean 'optim.lr'?)"),
        (["init=PARENT", "seed=1,2"], "seed=1,2: several values need -m"),
    ],
)
def test_bad_input_is_one_line(given, wanted, parent, words, tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    (tmp_path / "new").mkdir()
    shutil.copy(parent / "config.yaml", tmp_path / "new")
    places = {"PARENT": str(parent), "TRANSFORMERS": str(tmp_path / "hf"), "NEW": str(tmp_path / "new")}

    def placed(text):
        return re.sub("|".join(places), lambda found: places[found[0]], text)

    others = [] if any(word.startswith(("resume=", "from=")) for word in given) else words
    with pytest.raises(UserError) as error:
        described([*map(placed, given), *others])
    assert placed(wanted) in str(error.value) and len(str(error.value).splitlines()) == 1, str(error.value)


def test_all_contradictions_at_once(parent, words):
    with pytest.raises(UserError) as error:
        composed([f"init={parent}", *words, "model.width=64", "model.depth=3", "optim.lr=-1", "model.gated=false"])
    keys = [line.partition(":")[0] for line in str(error.value).splitlines()]
    assert sorted(keys) == ["model.depth", "model.gated", "model.width", "optim.lr"]
    same = ["model=llama-mini", "model.depth=2", "model.width=32"]
    assert compose([f"init={parent}", *words, *same]).model == compose([f"init={parent}", *words]).model
    with pytest.raises(UserError) as error:
        compose([f"init={parent}", *words, "model=gpt-mini"])
    keys = [line.partition(":")[0] for line in str(error.value).splitlines()]
    assert {"model.depth", "model.width", "model.gated", "model.position"} <= {*keys} and "model.ffn_width" not in keys


def test_learned_positions_end_where_they_end(untrained):
    parent = untrained(position="learned", max_length=64)
    assert compose([f"init={parent}"]).data.sequence_length == 64
    with pytest.raises(UserError, match=r"^data.sequence_length: 128 is longer than model.max_length 64$"):
        compose([f"init={parent}", "data.sequence_length=128"])
    with pytest.raises(UserError, match=r"^model.max_length: 80 given, .* have 64 learned positions$"):
        compose([f"init={parent}", "model.max_length=80"])


def test_a_classifier_has_no_head_to_go_on_with(untrained, tmp_path):
    run = RunFolder(untrained())
    tuned = run.load_config().model_dump(mode="json")
    tuned["task"] |= {"kind": "sequence", "train": ["x.jsonl"], "labels": ["a", "b"], "parent": "runs/a/b"}
    run.config.write_text(type(run.load_config()).model_validate(tuned).to_yaml())
    with pytest.raises(UserError, match=r"tuned with task.kind=sequence.*; name the run .* from: init=runs/a/b$"):
        compose([f"init={run.path}"])


@pytest.mark.parametrize("objective", ["masked_lm", "bart"])
def test_other_families(objective, untrained):
    parent = untrained(objective)
    config = compose([f"init={parent}"])
    assert config.objective == RunFolder(parent).load_config().objective
    taken, rows = fitted(weights(parent), config, config, parent / "tokenizer.model", parent / "tokenizer.model")
    other, wrong = ("whole_word", "replaced_token") if objective == "masked_lm" else ("span_corruption", "causal")
    assert check_run(compose([f"init={parent}", f"objective={other}"])) is None
    with pytest.raises(UserError) as error:
        check_run(compose([f"init={parent}", f"objective={wrong}"]))
    assert len(str(error.value).splitlines()) == 1 and wrong in str(error.value)
    model = load_model(parent)[0]
    assert rows is None and all(torch.equal(taken[name], value) for name, value in model.named_parameters())
