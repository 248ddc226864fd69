"""REINFORCE leave-one-out against the analytic gradient: a policy whose every answer can be written down."""

from __future__ import annotations

import itertools

import pytest
import torch

from trainer.config import Config
from trainer.models import NOT_A_TARGET, build, initialize

PROMPT, END, VOCABULARY, MOST = [1, 3], 2, 4, 2
KL = 0.3
OTHERS = [token for token in range(VOCABULARY) if token != END]
ANSWERS = [[END], *([first, second] for first in OTHERS for second in range(VOCABULARY))]
SOURCE = [3, 1, 3]


def policy_of(family="decoder", k=2, **more):
    """In fp64, and away from its reference."""
    config = Config.model_validate(
        {
            "model": {"family": family, "depth": 1, "width": 8, "heads": 2, "vocabulary": 6, "init_std": 0.5, **more},
            "tokenizer": {"path": "none"},
            "data": {"sequence_length": 8},
            "task": {
                **{"kind": "policy", "train": ("x.jsonl",), "parent": "elsewhere", "reward_function": "length"},
                **{"samples": k, "kl": KL, "max_new_tokens": MOST},
            },
        }
    )
    model = build(config).double()
    initialize(model.policy, 0)
    initialize(model.reference, 1)
    model.vocabulary = VOCABULARY  # of six rows: two belong to no token
    return model


def batch_of(model, answers):
    """One prompt with these answers."""
    encodes = model.config.family == "encoder_decoder"
    start = [0] if encodes else PROMPT
    width = len(start) + MOST - 1
    rows = [[*start, *answer[:-1]] for answer in answers]
    inside = torch.tensor([[place < len(row) for place in range(width)] for row in rows])
    batch = {
        "tokens": torch.tensor([[*row, *[0] * (width - len(row))] for row in rows]),
        "segments": torch.where(inside, 0, -1).int(),
        "positions": torch.arange(width).expand(len(rows), width) * inside,
    }
    targets = torch.full((len(rows), width), NOT_A_TARGET)
    for row, answer in enumerate(answers):
        targets[row, len(start) - 1 : len(start) - 1 + len(answer)] = torch.tensor(answer)
    batch["answers"] = targets
    if encodes:
        batch["source_tokens"] = torch.tensor([SOURCE] * len(rows))
    return {name: value[None] for name, value in batch.items()}


def likelihoods(model, net):
    """Log-probability of every answer there is [13], token by token, by the probabilities of the four tokens."""
    found = []
    for answer in ANSWERS:
        total = 0.0
        for place, token in enumerate(answer):
            if model.config.family == "encoder_decoder":
                logits = net.logits(torch.tensor([[0, *answer[:place]]]), source_tokens=torch.tensor([SOURCE]))
            else:
                logits = net.logits(torch.tensor([[*PROMPT, *answer[:place]]]))
            total = total + logits[0, -1, :VOCABULARY].log_softmax(dim=-1)[token]
        found.append(total)
    return torch.stack(found)


def gradients(model):
    found = [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in model.policy.parameters()]
    model.zero_grad()
    return torch.cat([one.flatten() for one in found])


def estimated(model, answers, rewards, blank=0):
    """(gradient, loss, count, side sums) of a step on one prompt."""
    batch = batch_of(model, answers)
    with torch.no_grad():
        reference = model.likelihood(model.reference, **batch)
    batch |= {"rewards": rewards[None], "reference": reference, "ended": torch.zeros(1, len(answers))}
    batch["targets"] = torch.zeros(1, len(answers), dtype=torch.int64)
    if blank:
        batch = {name: torch.cat([value, torch.zeros_like(value)]) for name, value in batch.items()}
        batch["targets"][1:] = batch["answers"][1:] = NOT_A_TARGET
        batch["segments"][1:] = -1
    loss, count, sums = model(**batch)
    loss.backward()
    return gradients(model), loss.detach(), int(count), sums


@pytest.mark.parametrize("family", ["decoder", "encoder_decoder"])
def test_the_estimate_is_unbiased(family):
    """Its expectation over all pairs of answers is the gradient of E[reward] - kl x KL, summed out over all answers."""
    model = policy_of(family)
    rewards = torch.linspace(-1, 2, len(ANSWERS), dtype=torch.float64)
    now = likelihoods(model, model.policy)
    assert float(now.exp().sum().detach()) == pytest.approx(1, abs=1e-12)
    before = likelihoods(model, model.reference).detach()
    objective = (now.exp() * (rewards - KL * (now - before))).sum()
    objective.backward()
    exact, chances = gradients(model), now.detach().exp()
    found, value = torch.zeros_like(exact), 0.0
    for pair in itertools.product(range(len(ANSWERS)), repeat=2):
        each, loss, count, _ = estimated(model, [ANSWERS[one] for one in pair], rewards[list(pair)])
        chance = chances[list(pair)].prod()
        found, value = found - chance * each / count, value - float(chance * loss) / count
    assert exact.abs().max() > 1e-3
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-12)
    assert value == pytest.approx(float(objective.detach()), rel=1e-9)


def test_each_answer_is_judged_by_the_mean_of_the_others():
    model, picked = policy_of(k=3), [0, 4, 9]
    rewards = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    now, before = likelihoods(model, model.policy), likelihoods(model, model.reference).detach()
    earned = rewards - KL * (now.detach() - before)[picked]
    baselines = torch.stack([(earned[1] + earned[2]) / 2, (earned[0] + earned[2]) / 2, (earned[0] + earned[1]) / 2])
    ((earned - baselines) * now[picked]).sum().neg().backward()
    exact = gradients(model)
    found, loss, count, sums = estimated(model, [ANSWERS[one] for one in picked], rewards)
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-12)
    assert count == 3 and float(loss) == pytest.approx(-float(earned.sum()), rel=1e-9)
    assert float(sums["reward"]) == pytest.approx(-0.5) and float(sums["reward_squared"]) == pytest.approx(5.25)
    assert float(sums["kl"]) == pytest.approx(float((now.detach() - before)[picked].sum()), rel=1e-9)
    assert float(sums["surprisal"]) == pytest.approx(-float(now[picked].sum().detach()), rel=1e-9)
    assert int(sums["answer_tokens"]) == 5

    again, same, count, _ = estimated(model, [ANSWERS[one] for one in picked], rewards, blank=1)
    assert count == 3 and float(same) == pytest.approx(float(loss), rel=1e-12)
    torch.testing.assert_close(again, found, rtol=1e-9, atol=1e-12)


def test_a_policy_that_is_its_reference_has_no_divergence():
    model = policy_of()
    model.reference.load_state_dict(model.policy.state_dict())
    _, _, _, sums = estimated(model, ANSWERS[3:5], torch.zeros(2, dtype=torch.float64))
    assert float(sums["kl"]) == 0
    assert all(not parameter.requires_grad for parameter in model.reference.parameters())


@pytest.mark.parametrize("begun", [False, True], ids=["as built", "after an evaluation"])
def test_a_policy_with_experts_learns_as_it_writes(begun):
    """A capacity that drops tokens in pre-training parts it neither from its reference nor from what wrote."""
    model = policy_of(experts={"count": 2, "per_token": 1, "capacity": 0.7})
    model.reference.load_state_dict(model.policy.state_dict())
    if begun:
        model.eval()
        model.train()
    assert model.policy.training and not model.reference.training
    _, _, _, sums = estimated(model, ANSWERS[3:5], torch.zeros(2, dtype=torch.float64))
    learning = likelihoods(model, model.policy)
    model.eval()
    assert float(sums["kl"]) == 0
    torch.testing.assert_close(learning, likelihoods(model, model.policy), rtol=1e-12, atol=0)
