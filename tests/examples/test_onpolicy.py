"""On-policy learning: the gradient that it estimates, and what it does."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import examples.onpolicy
from examples.onpolicy import OnPolicy, learned, main, reinforce, rows, sample, short
from trainer.cli.main import main as command
from trainer.config import Config
from trainer.data import Tokenizer
from trainer.generation.loaded_model import Trained, load_model
from trainer.generation.text import prompt_ids
from trainer.models import build, initialize
from trainer.models.preference import answer_likelihood
from trainer.run_folder import RunFolder
from trainer.tasks.formats import Scored
from trainer.tasks.records import Record
from trainer.training.checkpoint import save_weights
from trainer.utils.errors import UserError

VOCABULARY, END, PAD = 12, 2, 0
PROMPT = [1, 5, 6]


@pytest.fixture
def policy():
    model = {"width": 16, "heads": 2, "depth": 1, "vocabulary": VOCABULARY, "max_length": 32}
    config = Config.model_validate({"model": model, "tokenizer": {"path": "none"}, "data": {"sequence_length": 32}})
    net = build(config)
    initialize(net, 0)
    return net.double()


def count_sevens(answers):
    return torch.tensor([float(answer.count(7)) for answer in answers])


def test_the_gradient_is_that_of_the_expected_reward(policy):
    """One token an answer: the expectation is a sum over the vocabulary, and the estimate a mean over many samples."""
    reward = torch.linspace(-1, 1, VOCABULARY).double()
    exact = copy.deepcopy(policy)
    chances = exact.logits(torch.tensor([PROMPT]))[0, -1].softmax(dim=-1)
    (chances @ reward).neg().backward()

    settings = OnPolicy(steps=1, samples=4000, tokens=1, lr=0.0, beta=0.0)
    reinforce(
        policy, [PROMPT], lambda answers: reward[torch.tensor(answers)[:, 0]], settings, end=END, pad=PAD, room=32
    )
    pairs = [(p.grad.flatten(), q.grad.flatten()) for p, q in zip(policy.parameters(), exact.parameters(), strict=True)]
    estimated, wanted = (torch.cat(side) for side in zip(*pairs, strict=True))
    assert torch.nn.functional.cosine_similarity(estimated, wanted, dim=0) > 0.97


def test_rows_hold_the_answers_as_targets(policy):
    answers = [[7, 8, END], [9]]
    batch, targets = rows(PROMPT, answers, PAD, torch.device("cpu"))
    likelihood = answer_likelihood(policy, targets, **batch)
    for answer, found in zip(answers, likelihood, strict=True):
        whole = torch.tensor([[*PROMPT, *answer]])
        each = policy.logits(whole).log_softmax(dim=-1)[0, len(PROMPT) - 1 : -1].float()
        assert float(found) == pytest.approx(float(each.gather(1, torch.tensor(answer)[:, None]).sum()), rel=1e-5)


def test_rewards_rise_and_the_pull_holds_them_back(policy):
    seen = {}
    for beta in (0.0, 2.0):
        settings = OnPolicy(steps=60, samples=16, tokens=6, lr=1e-2, beta=beta)
        history = reinforce(copy.deepcopy(policy), [PROMPT], count_sevens, settings, end=END, pad=PAD, room=32)
        assert history[0].kl == pytest.approx(0)
        seen[beta] = sum(one.reward for one in history[-10:]) / 10, sum(one.kl for one in history[-10:]) / 10
    first = sum(one.reward for one in history[:5]) / 5
    assert seen[0.0][0] > 3 > 2 * first
    assert seen[2.0][1] < seen[0.0][1] / 2


def test_answers_end_with_their_end(policy):
    settings = OnPolicy(samples=64, tokens=10)
    answers = sample(policy, PROMPT, settings, torch.Generator().manual_seed(0), end=END, room=8)
    assert all(len(answer) <= 5 for answer in answers)
    assert all(END not in answer[:-1] for answer in answers) and any(answer[-1] == END for answer in answers)


# --- the command ---


@pytest.fixture
def reward_run(tmp_path):
    """A reward model with random weights over the shape of a run: its folder."""

    def make(policy):
        before = RunFolder(policy).load_config().model_dump(mode="json")
        task = {"kind": "reward", "text": ["text"], "answer": ["good", "bad"], "train": ["x.jsonl"]}
        config = Config.model_validate(before | {"task": task})
        model, run = build(config), RunFolder(tmp_path / "reward")
        initialize(model, 3)
        run.path.mkdir()
        run.config.write_text(config.to_yaml())
        run.tokenizer.write_bytes(RunFolder(policy).tokenizer.read_bytes())
        save_weights(run.checkpoints, {name: one.detach() for name, one in model.named_parameters()}, {"best": {}})
        return run.path

    return make


def onpolicy(folder, *words):
    program = [sys.executable, str(Path(examples.onpolicy.__file__).resolve()), *map(str, words)]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=120)


def test_as_a_command(untrained, reward_run, tmp_path):
    policy = untrained()
    for number, words in enumerate(((), (reward_run(policy), "prompt=def f("))):
        target = tmp_path / f"learned{number}"
        done = onpolicy(tmp_path, policy, *words, "steps=10", f"to={target}")
        assert done.returncode == 0, done.stderr
        *lines, last = [line.split() for line in done.stdout.splitlines()]
        assert last == ["saved", str(target)] and len(json.loads((target / "onpolicy.json").read_text())["steps"]) == 10
        assert [line[:2] for line in lines] == [["step", "5"], ["step", "10"]]
        assert all(line[2] == "reward" and line[4] == "KL" and line[6] == "nats" for line in lines)


def test_what_was_learned_is_a_run(untrained, tmp_path, capsys):
    """Learning by hand with the same seed gives the weights that are read back, and they are not the first ones."""
    policy, target = untrained(), tmp_path / "learned"
    main([str(policy), "steps=3", f"to={target}"])
    saved, before, trained = Trained.load(target), Trained.load(policy), Trained.load(policy)
    ends = {"end": trained.special("</s>"), "pad": trained.special("<pad>"), "room": trained.config.max_length}
    reinforce(trained.model, [prompt_ids(trained, "def ")], short, OnPolicy(steps=3), **ends)
    names = [name for name, _ in trained.model.named_parameters()]
    found, wanted, first = (dict(one.model.named_parameters()) for one in (saved, trained, before))
    for name in names:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=0)
    assert any(not torch.equal(found[name], first[name]) for name in names)
    capsys.readouterr()
    assert command(["generate", str(target), "prompt=def ", "tokens=4"]) == 0
    assert capsys.readouterr().out.startswith("def ")


def test_a_learned_reward_reads_as_in_training(untrained, reward_run):
    policy = untrained()
    run = reward_run(policy)
    model, config, _ = load_model(run)
    own = Tokenizer(RunFolder(policy).tokenizer)
    texts = {"text": "def f(", "good": "x): return x\n", "bad": "import os"}
    batch = Scored(config, own)(Record(texts, "here")).arrays
    rows = {name: torch.from_numpy(one)[None] for name, one in batch.items() if name != "targets"}
    scores = model.logits(**rows).squeeze(-1)
    answers = [[*own.encode(texts["good"]), own.specials["</s>"]], own.encode(texts["bad"])]
    torch.testing.assert_close(learned(run, texts["text"], own)(answers), scores[0].detach())


def test_bad_input(untrained, reward_run, tmp_path):
    policy = untrained()
    reward = reward_run(policy)
    others = {name: untrained(name) for name in ("masked_lm", "bart")}
    cases = [
        ([], "onpolicy: name a run, and perhaps the run of a reward model; got 0"),
        ([policy, policy, policy], "got 3"),
        (["nowhere"], "nowhere: no run folder of that name"),
        ([others["masked_lm"]], "a decoder wanted, this is an encoder"),
        ([others["bart"]], "a decoder wanted, this is an encoder-decoder"),
        ([reward], "was tuned with task.kind=reward; it scores text and writes none"),
        ([policy, policy], "a reward model wanted, as isoflop finetune <run> task=reward makes it"),
        ([policy, "promt=x"], "promt: no such option (did you mean 'prompt'?)"),
        ([policy, f"to={tmp_path}"], f"to: {tmp_path} exists; name another folder"),
        ([policy, "steps=0"], "steps: '0' given, a whole number from 1 wanted"),
        ([policy, f"prompt={'x = 1; ' * 40}"], "nothing can be answered"),
    ]
    for words, message in cases:
        with pytest.raises(UserError) as error:
            main([str(word) for word in words])
        assert message in str(error.value) and "\n" not in str(error.value)
    done = onpolicy(tmp_path, *cases[0][0])
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"isoflop: {cases[0][1]}\n")
