"""A policy that learns from rewards is a run like any other: rewards rise, it resumes, other layouts give its curve."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.trainer.training.half_way import half_way
from trainer.run.start import described
from trainer.run_folder import RunFolder
from trainer.trackers import read_metrics
from trainer.training.checkpoint import valid_checkpoints
from trainer.utils.errors import UserError

STEPS = 12


@pytest.fixture(scope="module")
def isoflop(command, tmp_path_factory):
    return command(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    lines = [{"text": f"def name{number % 9}(x{number % 5}", "label": "self):"} for number in range(24)]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def words_of(prompts, *more):
    task = ["task.kind=policy", "task.name=letters", f"task.train={prompts}", f"task.held_out={prompts}"]
    task += ["task.reward_function=contains", "task.reward_pattern=e", "task.chat=false", "task.samples=8"]
    machine = ["engine.threads=1", "engine.precision=fp32", "tracker.console=plain", "tracker.every_steps=1"]
    return [*task, "task.max_new_tokens=3", *machine, f"budget.steps={STEPS}", "optim.batch_size=6", *more]


def weights(run: Path):
    return next(valid_checkpoints(RunFolder(run).checkpoints)).weights()


def steps(run):
    return [record for record in read_metrics(run) if record["kind"] == "step"]


@pytest.fixture(scope="module")
def parent(untrained):
    return untrained()


@pytest.fixture(scope="module")
def whole(isoflop, parent, prompts):
    """The folder of the run, and what its command printed."""
    words = words_of(prompts, "optim.lr=2e-2", "checkpoint.every_steps=6", "checkpoint.keep_last=9", "run.id=whole")
    done = isoflop("finetune", str(parent), *words, "evaluation.every_steps=6", "evaluation.samples=6")
    assert done.returncode == 0, done.stderr
    return isoflop.folder / "runs" / "llama-mini-causal-letters" / "whole", done.stdout


def test_rewards_rise(whole):
    """The seed is fixed; from less than half of the answers to most of them."""
    run, said = whole
    records = [record["policy"] for record in steps(run)]
    assert len(records) == STEPS and "reward " in said and "writing answers" in said
    first, last = (sum(one["reward"] for one in part) / 2 for part in (records[:2], records[-2:]))
    assert first < 0.5 < 0.75 < last
    assert records[0]["kl"] == 0 and records[-1]["kl"] > 0.01
    for record, one in zip(steps(run), records, strict=True):
        assert record["loss"] == pytest.approx(0.05 * one["kl"] - one["reward"], abs=1e-5)
        assert one["reward_std"] == pytest.approx((one["reward"] * (1 - one["reward"])) ** 0.5, abs=1e-5)
        assert 1 <= one["length"] <= 3 and 0 <= one["ended"] <= 1 and one["entropy"] > 0
        assert {"generation", "reward", "reference", "forward_backward"} <= set(record["seconds"])
    rows = {row["key"]: row for row in json.loads((run / "pricetag.json").read_text())["rows"]}
    for key in ("time.generation", "time.reward", "time.reference", "time.learning"):
        assert rows[key]["measured"]["value"] > 0
    parts = sum(rows[f"flop.{name}"]["planned"]["value"] for name in ("generation", "reward", "reference", "learning"))
    assert parts == rows["flop.total"]["planned"]["value"] == rows["flop.total"]["measured"]["value"]


def test_its_scores(whole):
    run, said = whole
    scores = json.loads((run / "task.json").read_text())
    metrics, reference = scores["metrics"], scores["baselines"]["reference"]
    low, _ = scores["intervals"]["reward"]
    assert metrics["reward"] > low > reference["reward"] and metrics["kl"] > 0
    assert scores["answers"][0]["prompt"].startswith("def name") and "reference" in said
    config = RunFolder(run).load_config()
    assert config.model.dropout == 0 and config.task.parent and config.data.sequence_length == 16


def test_it_goes_on_as_if_never_stopped(isoflop, whole):
    run, _ = whole
    expected, curve = weights(run), [record["loss"] for record in steps(run)]
    half = half_way(run, "half", after=6)
    resumed = isoflop("train", f"resume={half}")
    assert resumed.returncode == 0, resumed.stderr
    assert [record["loss"] for record in steps(half)] == curve
    found = weights(half)
    assert found.keys() == expected.keys() and all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.slow
def test_another_layout_gives_the_curve(isoflop, whole, parent, prompts):
    run, _ = whole
    words = words_of(prompts, "optim.lr=2e-2", "evaluation.every_steps=6", "evaluation.samples=6", "run.id=elsewhere")
    done = isoflop("finetune", str(parent), *words, "launch.processes=2", "engine.zero_stage=2", "engine.micro_batch=2")
    assert done.returncode == 0, done.stderr
    assert len(steps(run)) == STEPS
    for ours, theirs in zip(read_metrics(run.with_name("elsewhere")), read_metrics(run), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5, abs=1e-6)
        if ours["kind"] == "step":
            assert ours["policy"] == pytest.approx(theirs["policy"], rel=1e-5, abs=1e-5)


@pytest.fixture(scope="module")
def reward_runs(untrained, tmp_path_factory):
    """Folders of reward models with random weights: of the policy's tokenizer, and of another one."""
    from tests.conftest import multilingual
    from trainer.config import Config
    from trainer.models import build, initialize
    from trainer.training.checkpoint import save_weights

    folder, before = tmp_path_factory.mktemp("rewards"), RunFolder(untrained())
    task = {"kind": "reward", "text": ["text"], "answer": ["good", "bad"], "train": ["x.jsonl"]}
    config = Config.model_validate(before.load_config().model_dump() | {"task": task})
    for name, tokenizer in (("own", before.tokenizer.read_bytes()), ("other", multilingual(("aa", "bb")))):
        run, model = RunFolder(folder / name), build(config)
        initialize(model, 3)
        run.path.mkdir()
        run.config.write_text(config.to_yaml())
        run.tokenizer.write_bytes(tokenizer)
        save_weights(run.checkpoints, {name: one.detach() for name, one in model.named_parameters()}, {"best": {}})
    return folder


@pytest.mark.slow
def test_an_encoder_decoder_learns_from_a_reward_model(isoflop, untrained, prompts, reward_runs):
    words = [word for word in words_of(prompts) if "reward" not in word]
    words += [f"task.reward={reward_runs / 'own'}", "run.id=judged", "budget.steps=3", "evaluation.samples=6"]
    parent = untrained("bart")
    done = isoflop("finetune", str(parent), *words, "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    run = Path(scores["run"])
    assert scores["baselines"]["reference"].keys() == {"reward", "kl"} and len(steps(run)) == 3
    assert RunFolder(run).load_config().task.reward == str((reward_runs / "own").resolve())
    rows = {row["key"]: row for row in json.loads((run / "pricetag.json").read_text())["rows"]}
    assert rows["flop.reward"]["planned"]["value"] > 0 and rows["time.reward"]["measured"]["value"] > 0
    shutil.rmtree(run)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["task.samples=1"], "task.samples: 1 given"),
        (["task.reward_function=null", "task.reward_pattern=''"], "task.reward: none given; task.reward=<run of"),
        (["task.reward=REWARDS/own"], "task.reward: two given, the run"),
        (["task.temperature=0.7"], "task.temperature: 0.7 given; the gradient is that of answers drawn at 1"),
        (["task.reward_function=contians"], "(did you mean 'contains'?)"),
        (["task.reward_pattern='('"], "task.reward_pattern: '(' is no regular expression"),
        (["task.reward_length=9"], "task.reward_length: reward_function=contains does not read it; length does"),
        (["task.max_new_tokens=60"], "prompts.jsonl:1: a prompt of"),
        (["task.max_new_tokens=65"], "task.max_new_tokens: 65 is more than data.sequence_length 64"),
        (["model.dropout=0.1"], "model.dropout: a policy learns from what it writes without dropout"),
        (["task.from_scratch=true"], "task.from_scratch: a policy is held near to a reference"),
        (
            ["engine.zero_stage=3"],
            "engine.zero_stage: 3 divides the weights that a policy writes with; 2 is the highest",
        ),
        (["LEARNED", "task.reward=nowhere"], "task.reward: nowhere: no run folder of that name"),
        (["LEARNED", "task.reward=REWARDS/other"], "has another tokenizer than the policy; tune a reward model from"),
        (["LEARNED", "task.reward=PARENT"], "is a run of pre-training; a reward model wanted, of task=reward"),
    ],
)
def test_bad_input(words, wanted, parent, prompts, reward_runs):
    given = words_of(prompts)
    if "LEARNED" in words:
        given = [word for word in given if "reward" not in word]
    words = [word.replace("REWARDS", str(reward_runs)).replace("PARENT", str(parent)) for word in words]
    with pytest.raises(UserError) as caught:
        described([f"from={parent}", *given, *(word for word in words if word != "LEARNED")])
    assert wanted in str(caught.value)
    assert all(not line.startswith(" ") for line in str(caught.value).splitlines())


def test_an_encoder_writes_nothing(untrained, prompts):
    with pytest.raises(UserError) as caught:
        described([f"from={untrained('masked_lm')}", *words_of(prompts)])
    assert "task.kind: policy tunes decoder and encoder_decoder models" in str(caught.value)
