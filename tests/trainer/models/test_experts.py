"""Mixtures of experts against a loop over tokens, capacities counted by hand, and who may know what."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.nn import functional as F

from trainer.config.experts import ExpertsConfig
from trainer.config.model import ModelConfig
from trainer.models.attention import Context
from trainer.models.experts import Experts, choose, within_capacity
from trainer.models.initialization import initial_stds, initialize
from trainer.models.routing import Routed, Routing, even_loss, targets_of_rows

COUNT = 6
ODD = {
    "switch": {"per_token": 1},
    "mixtral": {"per_token": 2, "renormalise": True},
    "fine-grained, shared": {"per_token": 3, "width": 5, "shared": 2},
    "gate on the shared": {"per_token": 2, "shared": 1, "shared_gate": True},
    "sigmoid, bias, groups": {
        **{"per_token": 2, "score": "sigmoid", "balance": "bias", "groups": 3, "groups_per_token": 2},
        **{"renormalise": True, "factor": 2.5},
    },
}


def made(options, *, training=False, **model):
    """An fp64 layer with weights that are larger than initial ones."""
    config = ModelConfig.model_validate(
        {"width": 16, "heads": 2, "ffn_width": 12, "experts": {"count": COUNT, **options}, **model}
    )
    layer = Experts(config, initial_stds(config))
    initialize(layer, 0)
    layer = layer.double().train(training)
    with torch.no_grad():
        for number, (name, one) in enumerate([*layer.named_parameters(), *layer.named_buffers()]):
            stream = torch.Generator().manual_seed(number)
            one.add_(torch.randn(one.shape, generator=stream, dtype=torch.float64) * (0.1 if "bias" in name else 0.5))
    return layer


def context(segments=None, routing=None):
    return Context((None, None), None, "auto", real=None if segments is None else segments >= 0, routing=routing)


def inputs(rows=2, length=9, seed=5):
    return torch.randn(rows, length, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_token(layer, token):
    """What the papers say of one token, in words of one token."""
    options = layer.config
    logits = layer.router.weight @ token
    scores = logits.softmax(0) if options.score == "softmax" else 1 / (1 + torch.exp(-logits))
    aims = scores + layer.balance_bias if options.by_bias else scores
    allowed = list(range(COUNT))
    if options.groups:
        size = COUNT // options.groups
        groups = [range(start, start + size) for start in range(0, COUNT, size)]
        best = sorted(groups, key=lambda one: -sum(sorted(float(aims[i].detach()) for i in one)[-2:]))
        allowed = [i for group in best[: options.groups_per_token] for i in group]
    chosen = sorted(allowed, key=lambda i: -float(aims[i].detach()))[: options.per_token]
    whole = sum(scores[i] for i in chosen) if options.renormalise else 1.0
    out = torch.zeros_like(token)
    for i in chosen:
        hidden = F.silu(layer.gate[i] @ token) * (layer.up[i] @ token)
        out = out + options.factor * scores[i] / whole * (layer.down[i] @ hidden)
    if layer.shared is not None:
        more = layer.shared.down.weight @ (F.silu(layer.shared.gate.weight @ token) * (layer.shared.up.weight @ token))
        out = out + (more if layer.shared_gate is None else more / (1 + torch.exp(-layer.shared_gate.weight @ token)))
    return out


@pytest.mark.parametrize("name", ODD)
def test_equal_to_a_loop_over_tokens(name):
    layer, x = made(ODD[name]), inputs().requires_grad_()
    wanted = torch.stack([torch.stack([by_token(layer, token) for token in row]) for row in x])
    found = layer(x, context())
    assert (found - wanted).abs().max() < 1e-12
    ours = torch.autograd.grad(found.square().sum(), [x, *layer.parameters()])
    theirs = torch.autograd.grad(wanted.square().sum(), [x, *layer.parameters()])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_the_router_is_in_fp32_under_autocast():
    layer, x = made(ODD["mixtral"]).float(), inputs().float()
    seen = []
    layer.router.register_forward_hook(lambda module, given, out: seen.append(out))
    alone = layer.router(x.flatten(0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x, context())
    assert seen[-1].dtype == torch.float32 and torch.equal(seen[-1], alone)
    assert out.dtype == torch.bfloat16


def test_capacity_by_hand():
    """Two groups of four tokens, three experts of two places each, two choices a token: the first come are taken."""
    chosen = torch.tensor([[0, 1], [0, 2], [0, 1], [2, 0], [1, 2], [2, 1], [2, 1], [0, 1]])
    experts = ExpertsConfig(count=3, per_token=2, capacity=0.75)
    assert experts.places(4) == 2
    order = within_capacity(chosen, experts, 2, None)
    taken = [[1, 1], [1, 1], [0, 1], [1, 0], [1, 1], [1, 1], [0, 0], [1, 0]]
    assert order.kept.view(8, 2).int().tolist() == taken
    # As many rows are computed as can be taken at the most: two groups of 3 x 2; those of no use come last.
    assert len(order.pairs) == 12 and order.kept[order.pairs[:11]].all() and not order.kept[order.pairs[11:]].any()
    assert order.ends.tolist() == [3, 7, 12]
    assert chosen.flatten()[order.pairs[:11]].tolist() == sorted(chosen.flatten()[order.kept].tolist())

    real = torch.tensor([True, False, True, True, True, True, True, False])  # padding takes no place
    order = within_capacity(chosen, experts, 2, real)
    assert order.kept.view(8, 2).int().tolist() == [
        *([1, 1], [0, 0], [1, 1], [1, 0]),
        *([1, 1], [1, 1], [0, 0], [0, 0]),
    ]


def test_dropped_tokens_pass_by_and_are_counted():
    layer, routing, x = made({"per_token": 1, "capacity": 1.0}, training=True), Routing(), inputs(2, 12)
    segments = torch.zeros(2, 12, dtype=torch.int32)
    segments[:, 10:] = -1
    out = layer(x, context(segments, routing))
    (routed,) = routing.layers
    chosen = choose(layer.router(x.flatten(0, 1)), layer.config, None).experts.view(2, 12)[:, :10]
    loads = torch.stack([torch.bincount(row, minlength=COUNT) for row in chosen])
    assert torch.equal(routed.chosen, loads) and routed.tokens.tolist() == [10, 10]
    assert int(routed.dropped) == int((loads - 2).clamp(min=0).sum()) > 0  # 12 tokens, 6 experts: two places each
    passed_by = (out[:, :10].abs().sum(-1) == 0).sum()
    assert int(passed_by) == int(routed.dropped) and (out[:, 10:] == 0).all()
    assert torch.equal(layer.eval()(x, context(segments)), made({"per_token": 1})(x, context()))


@pytest.mark.parametrize("group", [1, 2])
def test_no_token_depends_on_a_later_one(group):
    """First come, first served: what comes later takes nobody's place, nor does another group."""
    layer = made({"per_token": 2, "capacity": 0.7, "group": group}, training=True)
    x, place = inputs(4, 8), 5
    before = layer(x, context())
    changed = x.clone()
    changed[:, place:] = inputs(4, 8, seed=6)[:, place:]
    after = layer(changed, context())
    moved = (before - after).abs().amax(-1)
    assert moved[0, :place].max() < 1e-12 and moved[0, place:].max() > 0.1
    assert (layer(x[:group], context()) - before[:group]).abs().max() < 1e-12


def test_the_loss_of_loads_and_the_z_loss():
    """Switch's equation 4 and ST-MoE's equation 5, written out; 1 where loads are even."""
    options = {"per_token": 2, "group": 2, "balance_weight": 0.5, "z_loss": 0.25}
    layer, routing, x = made(options, training=True), Routing(), inputs(4, 6)
    segments = torch.zeros(4, 6, dtype=torch.int32)
    segments[1, 4:] = -1
    layer(x, context(segments, routing))
    targets = torch.tensor([3, 1, 4, 2])
    added, sums = routing.losses(layer.config, targets)
    logits = layer.router(x)
    scores = logits.softmax(-1)
    wanted_balance = wanted_z = 0.0
    for rows in ((0, 1), (2, 3)):
        tokens = [(b, s) for b, s in product(rows, range(6)) if segments[b, s] >= 0]
        chosen = torch.stack([scores[b, s].topk(2).indices for b, s in tokens])
        even = 0.0
        for i in range(COUNT):
            share = (chosen == i).sum() / chosen.numel()
            even += COUNT * share * sum(scores[b, s, i] for b, s in tokens) / len(tokens)
        wanted_balance += 0.5 * even * sum(targets[b] for b in rows)
    for b in range(4):
        places = [s for s in range(6) if segments[b, s] >= 0]
        each = [torch.log(torch.exp(logits[b, s]).sum()) ** 2 for s in places]
        wanted_z += 0.25 * targets[b] * sum(each) / len(places)
    torch.testing.assert_close(added.double(), wanted_balance + wanted_z, rtol=1e-6, atol=0)
    torch.testing.assert_close(sums["balance_loss"].double(), wanted_balance.detach(), rtol=1e-6, atol=0)
    even = even_loss(torch.full((1, 4), 2.0), torch.full((1, 4), 4), torch.tensor([8]), 2)
    assert float(even) == 1.0


def test_parts_of_a_batch_add_up_to_the_loss_of_its_loads():
    """A group that is the whole batch: the parts of any division sum to the loss of the whole."""
    options = {"per_token": 2, "group": "batch", "balance_weight": 0.5, "z_loss": 0.0}
    layer, x, targets = made(options, training=True), inputs(4, 6), torch.tensor([3, 1, 4, 2])

    def losses(rows):
        routing = Routing()
        layer(x[rows], context(routing=routing))
        return routing

    whole = losses(slice(0, 4))
    loads = whole.layers[0].chosen.sum(0, keepdim=True).double()
    all_targets = targets.sum().double()
    one, _ = whole.losses(layer.config, targets, loads, all_targets)
    parts = [
        losses(rows).losses(layer.config, targets[rows], loads, all_targets)[0] for rows in (slice(1), slice(1, 4))
    ]
    torch.testing.assert_close(one, sum(parts), rtol=1e-6, atol=0)
    routed = whole.layers[0]
    merged = even_loss(routed.scores.sum(0)[None], routed.chosen.sum(0)[None], torch.tensor([24]), 2)
    torch.testing.assert_close(one.double(), 0.5 * 10 * merged[0], rtol=1e-6, atol=0)


def test_targets_of_rows():
    assert targets_of_rows(torch.tensor([[1, -100], [3, 4]]), 2).tolist() == [1.0, 2.0]
    assert targets_of_rows(torch.tensor([0, -100]), 4).tolist() == [0.5, 0.5, 0.0, 0.0]  # pairs of sequences


def test_what_is_computed_again_is_counted_once():
    routing = Routing()
    one = Routed(*(torch.zeros(1),) * 5)
    routing.add(one)
    routing.open = False
    routing.add(one)
    assert len(routing.layers) == 1
