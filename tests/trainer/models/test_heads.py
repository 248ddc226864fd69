"""Heads and losses of tuning, against their formulas and against what padding and batches must not change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainer.config import Config
from trainer.models import build, initialize

TASKS = {
    "sequence": {"labels": ("a", "b", "c")},
    "reward": {"answer": ("chosen", "rejected")},
    "preference": {"answer": ("chosen", "rejected"), "parent": "elsewhere", "beta": 0.3},
    "token": {"labels": ("a", "b", "c")},
    "text": {"label_smoothing": 0.2},
}


def model_of(kind, family="decoder"):
    config = Config.model_validate(
        {
            "model": {"family": family, "depth": 2, "width": 32, "heads": 4, "vocabulary": 64, "init_std": 0.2},
            "tokenizer": {"path": "none"},
            "data": {"sequence_length": 16},
            "task": {"kind": kind, "train": ("x.jsonl",), **TASKS[kind]},
        }
    )
    model = build(config)
    initialize(model, 0)
    return model


def rows(count, width, seed=0, source=False):
    """Random rows of random lengths, padded."""
    chance = np.random.default_rng(seed)
    lengths = chance.integers(3, width, count)
    inside = torch.from_numpy(np.arange(width) < lengths[:, None])
    tokens = torch.from_numpy(chance.integers(4, 64, (count, width)))
    segments = torch.where(inside, 0, -1).int()
    batch = {"tokens": tokens, "segments": segments, "positions": torch.arange(width).expand(count, width) * inside}
    return {f"source_{name}": value for name, value in batch.items()} | batch if source else batch


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder_decoder"])
def test_padding_and_neighbours_change_nothing(family):
    model = model_of("sequence", family).eval()
    batch = rows(5, 16, source=family == "encoder_decoder")
    together = model.logits(**batch)
    for row in range(5):
        size = int((batch["segments"][row] >= 0).sum())
        alone = model.logits(**{name: value[row : row + 1, :size] for name, value in batch.items()})
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_blank_rows_teach_nothing():
    """What fills up a rank's last micro-batch must not turn gradients into NaN."""
    for kind in ("sequence", "token"):
        model = model_of(kind, "encoder")
        batch = rows(2, 16)
        batch["segments"][1] = -1
        targets = torch.full((2,) if kind == "sequence" else (2, 16), -100)
        targets[0] = 1
        loss, _, _ = model(targets=targets, **batch)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_reward_model_has_bradley_and_terrys_loss():
    model = model_of("reward")
    chosen, rejected = rows(4, 16, 1), rows(4, 16, 2)
    batch = {name: torch.stack((chosen[name], rejected[name]), dim=1) for name in chosen}
    loss, count, sums = model(targets=torch.tensor([0, 0, 0, -100]), **batch)
    margins = (model.logits(**chosen) - model.logits(**rejected))[:3, 0].double()
    odds = margins.exp()
    assert float(loss.detach()) == pytest.approx(float(-(odds / (1 + odds)).log().sum()), rel=1e-5)
    assert int(count) == 3 and int(sums["correct"]) == int((margins > 0).sum())


def test_direct_preference_optimization_by_its_formula():
    """Rafailov et al. 2023, equation 7, with probabilities multiplied out token by token."""
    model = model_of("preference")
    assert all(not parameter.requires_grad for parameter in model.reference.parameters())
    pair = [rows(3, 10, 1), rows(3, 10, 2)]
    batch = {name: torch.stack([one[name] for one in pair], dim=1) for name in pair[0]}
    answers = torch.full((3, 2, 10), -100)
    answers[..., 1:3] = batch["tokens"][..., 2:4]
    loss, count, _ = model(targets=torch.zeros(3, dtype=torch.int64), answers=answers, **batch)

    def probability(net, row, side):
        logits = net.logits(batch["tokens"][row, side, None], batch["positions"][row, side, None])[0].double()
        chances = logits.softmax(dim=-1)
        return math.prod(float(chances[place, int(answers[row, side, place])]) for place in (1, 2))

    expected = 0.0
    for row in range(3):
        ratios = [probability(model.policy, row, side) / probability(model.reference, row, side) for side in (0, 1)]
        expected -= math.log(1 / (1 + math.exp(-0.3 * (math.log(ratios[0]) - math.log(ratios[1])))))
    assert float(loss) == pytest.approx(expected, rel=1e-4) and int(count) == 3


def test_a_policy_that_is_its_reference_has_no_margin():
    model = model_of("preference")
    model.reference.load_state_dict(model.policy.state_dict())
    pair = rows(3, 10, 1)
    batch = {name: torch.stack((value, value.flip(0)), dim=1) for name, value in pair.items()}
    assert model.margins(answers=batch["tokens"], **batch).abs().max() < 1e-4


def test_label_smoothing_in_training_alone():
    """Szegedy et al. 2016, section 7: (1 - e) of the target and e of the uniform distribution."""
    model = model_of("text")
    batch = rows(3, 8)
    targets = torch.randint(64, (3, 8))
    chances = model.logits(**batch).log_softmax(dim=-1)
    hit = chances.gather(2, targets[..., None])[..., 0]
    plain, _, _ = model.eval()(targets=targets, **batch)
    smooth, _, _ = model.train()(targets=targets, **batch)
    assert float(plain) == pytest.approx(float(-hit.sum()), rel=1e-5)
    assert float(smooth) == pytest.approx(float(-(0.8 * hit + 0.2 * chances.mean(dim=-1)).sum()), rel=1e-5)


def test_preferences_of_an_encoder_decoder_begin_at_ln_2_and_follow_the_formula():
    """As a decoder's, over an encoder that reads the prompt: by hand from the probabilities of every token."""
    model = model_of("preference", "encoder_decoder")
    pair = [rows(3, 10, 1, source=True), rows(3, 10, 2, source=True)]
    for name in ("source_tokens", "source_segments", "source_positions"):
        pair[1][name] = pair[0][name]  # one prompt, two answers
    batch = {name: torch.stack([one[name] for one in pair], dim=1) for name in pair[0]}
    answers = torch.full((3, 2, 10), -100)
    answers[..., :2] = batch["tokens"][..., 1:3]
    targets = torch.zeros(3, dtype=torch.int64)

    def likelihood(net, row, side):
        size = int((batch["source_segments"][row, side] >= 0).sum())
        source = batch["source_tokens"][row, side, None, :size]
        total = 0.0
        for place in range(2):
            read = batch["tokens"][row, side, None, : place + 1]
            chances = net.logits(read, source_tokens=source)[0, -1].double().softmax(dim=-1)
            total += math.log(float(chances[int(answers[row, side, place])]))
        return total

    expected = 0.0
    for row in range(3):
        margin = [likelihood(model.policy, row, side) - likelihood(model.reference, row, side) for side in (0, 1)]
        expected += math.log(1 + math.exp(-0.3 * (margin[0] - margin[1])))
    loss, count, _ = model(targets=targets, answers=answers, **batch)
    assert float(loss) == pytest.approx(expected, rel=1e-4) and int(count) == 3

    model.reference.load_state_dict(model.policy.state_dict())
    begun, _, sums = model(targets=targets, answers=answers, **batch)
    assert float(begun) == pytest.approx(3 * math.log(2), rel=1e-6) and float(sums["margin"]) == 0
