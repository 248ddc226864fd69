"""Dropout in the models is a function of the sample and of the place in the network, and of nothing beside."""

from __future__ import annotations

import itertools

import pytest
import torch
from presets import DISCRIMINATORS, FAMILIES, batch, tiny

from trainer.models.dropout import SITES, TOWERS, Dropout, Rates, place_seed, use_dropout

ROWS = torch.tensor([6, 2**34])


def dropping(name, hidden=0.2, attention=0.1, seed=0):
    """A small model of this family with dropout everywhere, and a batch."""
    config, model = tiny(name)
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), Rates):
            module.dropout = Rates(hidden, attention)
    use_dropout(model, seed, "auto")
    return model.train(), batch(config) | {"samples": ROWS}


def loss_and_gradients(model, inputs):
    model.zero_grad()
    loss, _, _ = model(**inputs)
    loss.backward()
    return loss.detach(), {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def rows_of(inputs, rows):
    return {name: value[rows] for name, value in inputs.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_sample_has_its_masks_in_any_micro_batch_and_in_a_recomputed_pass(name):
    model, inputs = dropping(name)
    whole, gradients = loss_and_gradients(model, inputs)
    again, _ = loss_and_gradients(model, rows_of(inputs, [1, 0]))
    parts = [loss_and_gradients(model, rows_of(inputs, [row])) for row in (0, 1)]
    assert again == pytest.approx(float(whole), rel=1e-6)
    if name not in DISCRIMINATORS:  # a generator's draws share a row's weight
        assert float(parts[0][0] + parts[1][0]) == pytest.approx(float(whole), rel=1e-6)
        for parameter, gradient in gradients.items():
            summed = sum(part[1].get(parameter, torch.zeros(())) for part in parts)
            assert (summed - gradient).abs().max() <= 1e-9 * (1 + gradient.abs().max())
    model.recompute = True
    other, recomputed = loss_and_gradients(model, inputs)
    assert torch.equal(other, whole) and all(torch.equal(recomputed[one], gradients[one]) for one in gradients)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_drops_and_evaluation_does_not(name):
    model, inputs = dropping(name)
    _, plain = tiny(name)
    wanted = plain.eval()(**inputs)[0]
    assert torch.equal(model.eval()(**inputs)[0], wanted)
    losses = [float(wanted.detach())]
    for seed, rows in ((0, ROWS), (1, ROWS), (0, ROWS + 1)):
        use_dropout(model.train(), seed, "auto")
        losses.append(float(model(**inputs | {"samples": rows})[0].detach()))
    assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("hidden,attention", [(0.3, 0.0), (0.0, 0.3)])
@pytest.mark.parametrize("name", ["llama3.2-1b", "bert-base", "t5-small", "xlnet-base"])
def test_each_rate_works_alone(name, hidden, attention):
    model, inputs = dropping(name, hidden, attention)
    assert not torch.equal(model(**inputs)[0], model.eval()(**inputs)[0])


def test_a_row_without_a_number_is_refused():
    model, inputs = dropping("bert-base")
    del inputs["samples"]
    with pytest.raises(ValueError, match="Encoder: dropout in training needs `samples`"):
        model(**inputs)
    model.eval()(**inputs)


def masks_of(name, monkeypatch):
    """(tower, depth, site) -> mask of every call in one pass, as the numbers that are kept of ones."""
    model, inputs = dropping(name)
    seen = []
    real = Dropout.__call__

    def spy(self, x, site):
        seen.append(((self.tower, self.depth, site), real(self, torch.ones_like(x), site) > 0))
        return real(self, x, site)

    monkeypatch.setattr(Dropout, "__call__", spy)
    model(**inputs)
    assert len({place for place, _ in seen}) == len(seen)
    return dict(seen)


@pytest.mark.parametrize("name", ["albert-base", "t5-small", "xlnet-base", "pythia-160m", "olmo2-1b", *DISCRIMINATORS])
def test_no_two_places_share_a_mask(name, monkeypatch):
    masks = masks_of(name, monkeypatch)
    for (one, mine), (other, theirs) in itertools.combinations(masks.items(), 2):
        size = min(mine.numel(), theirs.numel())
        agree = (mine.flatten()[:size] == theirs.flatten()[:size]).double().mean()
        assert agree == pytest.approx(0.2**2 + 0.8**2, abs=6 * (0.68 * 0.32 / size) ** 0.5), (one, other)


def test_the_places_are_those_of_the_papers(monkeypatch):
    bert = masks_of("bert-base", monkeypatch)
    blocks = {("main", depth, site) for depth in (1, 2) for site in ("attention", "feed_forward")}
    assert set(bert) == blocks | {("main", 0, "embedding")}
    monkeypatch.undo()
    t5 = masks_of("t5-small", monkeypatch)
    wanted = {(tower, 0, site) for tower in ("main", "decoder") for site in ("embedding", "output")}
    for tower, depth, site in itertools.product(("main", "decoder"), (1, 2), ("attention", "hidden", "feed_forward")):
        wanted.add((tower, depth, site))
    assert set(t5) == wanted | {("decoder", depth, "cross_attention") for depth in (1, 2)}
    monkeypatch.undo()
    xlnet = {(tower, site) for tower, _, site in masks_of("xlnet-base", monkeypatch)}
    assert xlnet == {
        *itertools.product(("main", "query"), ("embedding", "attention", "hidden", "feed_forward")),
        ("query", "output"),
    }
    monkeypatch.undo()
    assert {tower for tower, _, _ in masks_of("electra-small", monkeypatch)} == {"main", "generator"}
    monkeypatch.undo()
    deberta = {(tower, depth) for tower, depth, _ in masks_of("deberta-v3-small", monkeypatch)}
    assert deberta == {("main", 0), ("main", 1), ("main", 2), ("generator", 0), ("generator", 1)}


def test_seeds_of_places_are_words_of_64_bits_and_differ():
    places = itertools.product(range(len(TOWERS)), range(60), range(2 * len(SITES)))
    seeds = {place_seed(seed, *place) for place in places for seed in (0, 1, 2**63 - 1)}
    assert len(seeds) == 3 * len(TOWERS) * 60 * 2 * len(SITES)
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
