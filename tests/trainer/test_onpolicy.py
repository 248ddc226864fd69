"""On-policy learning: the gradient that it estimates, and what it does."""

from __future__ import annotations

import copy

import pytest
import torch

from trainer.config import Config
from trainer.models import build, initialize
from trainer.models.tuned import answer_likelihood
from trainer.onpolicy import OnPolicy, reinforce, rows, sample

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
