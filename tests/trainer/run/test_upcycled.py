"""Upcycling: a run with experts from the weights of a dense one."""

from __future__ import annotations

import json

import pytest
import torch

from trainer.compose import compose
from trainer.generation.loaded_model import load_model
from trainer.models import build, initialize, load_weights
from trainer.run.start import ready
from trainer.training.checkpoint import open_weights
from trainer.utils.errors import UserError

EXPERTS = ["model.experts.count=4", "model.experts.per_token=2"]
EQUAL = "model.experts.renormalise=true"


@pytest.fixture
def words(tiny, tmp_path):
    kept = [word for word in tiny if word.startswith(("data", "run.cache", "engine", "tracker"))]
    return [*kept, f"run.root={tmp_path / 'runs'}", "run.id=a", "budget.steps=1"]


def begun(words):
    """The model of a run as it begins."""
    config, folder = ready(words)
    model = build(config).eval()
    load_weights(model, open_weights(folder.initial / "step-00000000").weights())
    return config, folder, model


def logits(model, family):
    tokens = torch.randint(6, 300, (2, 20), generator=torch.Generator().manual_seed(1))
    return model.logits(tokens, **({"source_tokens": tokens} if family == "encoder_decoder" else {}))


@pytest.mark.parametrize(("objective", "more"), [("causal", []), ("span_corruption", ["model.experts.every=2"])])
@torch.no_grad()
def test_it_begins_as_the_dense_one(objective, more, untrained, words, capsys):
    parent = untrained(objective)
    config, folder, model = begun([f"init={parent}", *words, *EXPERTS, EQUAL, *more])
    dense = load_model(parent)[0].cpu()
    torch.testing.assert_close(logits(model, config.model.family), logits(dense, config.model.family))
    lineage = json.loads(folder.lineage.read_text())
    assert lineage["experts"] == 4
    said = capsys.readouterr().out
    assert "4 experts a layer, each a copy of its feed-forward" in said and "begins as the dense one" in said
    new = build(config)
    initialize(new, config.seed)
    drawn, whole = dict(new.named_parameters()), dict(model.named_parameters())
    routers = [name for name in whole if name.endswith("router.weight")]
    assert routers and all(torch.equal(whole[name], drawn[name]) for name in routers)


@torch.no_grad()
def test_one_expert_by_its_own_weight_is_another_function_and_that_is_said(untrained, words, capsys):
    parent = untrained("causal")
    _, _, model = begun([f"init={parent}", *words, "model.experts.count=4", "model.experts.per_token=1"])
    said = capsys.readouterr().out
    assert "does not begin as the dense one" in said and "model.experts.renormalise=true would let it" in said
    dense = load_model(parent)[0].cpu()
    assert (logits(model, "decoder") - logits(dense, "decoder")).abs().max() > 1e-3


def test_what_the_weights_cannot_become_is_refused(untrained, words):
    parent = untrained("causal")
    for given, said in (
        ("model.experts.width=99", "model.experts.width: 99 given, the weights of init=.* have feed-forwards of 128"),
        ("model.experts.shared=1", "model.experts.shared: 1 given, .* have one feed-forward a layer"),
        ("model.experts.per_token=9", "a token cannot read 9 of 4 experts"),
        ("model.width=64", "model.width: 64 given, .* have 32"),
    ):
        with pytest.raises(UserError, match=said) as error:
            compose([f"init={parent}", *words, *EXPERTS, given])
        assert len(str(error.value).splitlines()) == 1, error.value
    biased = untrained("causal", bias=True, norm="layernorm")
    with pytest.raises(UserError, match="have feed-forwards with biases, which experts have not"):
        compose([f"init={biased}", *words, *EXPERTS])


def test_a_run_with_experts_goes_on_with_its_own(untrained, words):
    parent = untrained("causal", experts={"count": 4, "per_token": 2})
    config = compose([f"init={parent}", *words, "model.experts.balance_weight=0.1", "model.experts.capacity=2"])
    assert (config.model.experts.count, config.model.experts.capacity) == (4, 2)
    for given in ("model.experts.count=8", "model.experts.width=64", "model.experts.shared=1"):
        with pytest.raises(UserError, match=r"model.experts.\w+: \d+ given, the weights of .* have \d"):
            compose([f"init={parent}", *words, given])
    _, folder, _ = begun([f"init={parent}", *words])
    assert json.loads(folder.lineage.read_text())["experts"] is None


@pytest.mark.parametrize("experts", [{"count": 4, "per_token": 2}, None])
def test_a_bias_that_evens_loads_begins_at_zero(experts, untrained, words):
    parent = untrained("causal", **({"experts": experts} if experts else {}))
    _, _, model = begun([f"init={parent}", *words, *EXPERTS, "model.experts.balance=bias"])
    assert all(not block.feed_forward.balance_bias.any() for block in model.backbone.blocks)
