"""Disentangled attention against its formula, pair by pair, and a generator and a discriminator with an embedding each
(DeBERTa, He et al. 2021 and 2023)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from presets import batch, preset, side, tiny

from trainer.config.disentangled import rows_used, table_rows
from trainer.models import build, initialize
from trainer.models.disentangled import DisentangledAttention, distance_buckets

ENCODER = {"family": "encoder", "position": "disentangled", "norm": "layernorm", "norm_position": "post"}
ENCODER |= {"depth": 1, "width": 24, "heads": 3, "gated": False, "activation": "gelu", "bias": True, "vocabulary": 320}


def config_of(**keys):
    return preset("bert-base", **ENCODER | {"pooler": "none", "sentence_head": False, "token_types": 0} | keys)


def bucket(distance, buckets, farthest):
    """He et al. 2021, section 3.1, with the logarithmic buckets of the released code: one number at a time."""
    half = (buckets or 2 * farthest) // 2
    if buckets is None or abs(distance) <= half:
        return distance
    share = math.log(abs(distance) / half) / math.log((farthest - 1) / half)
    return int(math.copysign(math.ceil(share * (half - 1) - 1e-6) + half, distance))


SHAPES = [(6, 16), (7, 40), (256, 512), (16, 20), (10, 30), (None, 5), (None, 512)]


@pytest.mark.parametrize(("buckets", "farthest"), SHAPES)
@pytest.mark.parametrize("length", [1, 2, 9, 40, 600])
def test_buckets_and_the_rows_that_they_need(buckets, farthest, length):
    found = distance_buckets(length, buckets, farthest, torch.device("cpu")).tolist()
    assert found == [bucket(distance, buckets, farthest) for distance in range(length)]
    model = config_of(relative_buckets=buckets, relative_distance=farthest).model
    first, count = rows_used(model, length)
    half = table_rows(model) // 2
    used = {min(max(sign * one + half, 0), 2 * half - 1) for one in found for sign in (1, -1)}
    assert first <= min(used) and max(used) < first + count <= 2 * half
    assert count <= 2 * length - 1 or count == 2 * half


@pytest.mark.parametrize("terms", ["both", "c2p", "p2c"])
@pytest.mark.parametrize("shared", [True, False])
def test_scores_are_those_of_the_formula(terms, shared):
    config = config_of(relative_terms=terms, relative_shared=shared, relative_buckets=4, relative_distance=7)
    net = build(config).double()
    layer, table = net.backbone.blocks[0].attention, net.backbone.relative
    assert isinstance(layer, DisentangledAttention)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (*layer.parameters(), *table.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    length = 9
    x = torch.randn(2, length, 24, generator=generator, dtype=torch.float64)
    context = net.backbone.context(x, None, None)
    found = layer(x, context)

    rows = table.norm(table.table.weight)
    heads = [one.unflatten(-1, (3, 8)) for one in (layer.query(x), layer.key(x), layer.value(x))]
    query, key, value = heads
    position_key = (layer.key if shared or terms == "p2c" else layer.position_key)(rows).unflatten(-1, (3, 8))
    position_query = (layer.query if shared or terms == "c2p" else layer.position_query)(rows).unflatten(-1, (3, 8))
    mixed = torch.zeros_like(query)
    for b, h, i in itertools.product(range(2), range(3), range(length)):
        scores = []
        for j in range(length):
            place = min(max(bucket(i - j, 4, 7) + 4, 0), 7)
            score = query[b, i, h] @ key[b, j, h]
            score = score + (query[b, i, h] @ position_key[place, h] if terms != "p2c" else 0)
            score = score + (key[b, j, h] @ position_query[place, h] if terms != "c2p" else 0)
            scores.append(score / math.sqrt(8 * (3 if terms == "both" else 2)))
        mixed[b, i, h] = torch.stack(scores).softmax(0) @ value[b, :, h]
    torch.testing.assert_close(found, layer.output(mixed.flatten(-2)), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_order_of_words_counts_and_their_place_does_not():
    _, net = tiny("deberta-v3-small")
    tokens, segments = side(12)["tokens"], torch.zeros(2, 12, dtype=torch.int32)
    turned = net.backbone(tokens.flip(1)).flip(1)
    assert (turned - net.backbone(tokens)).abs().max() > 1e-3
    segments[:, :5] = -1
    moved = torch.cat((tokens[:, :5], tokens[:, :7]), dim=1)
    assert (net.backbone(moved, None, segments)[:, 5:] - net.backbone(tokens[:, :7])).abs().max() < 1e-12


def gradients(net, loss):
    net.zero_grad()
    loss.backward(retain_graph=True)
    return {name: one.grad for name, one in net.named_parameters() if one.grad is not None and one.grad.any()}


@pytest.mark.parametrize("name", ["deberta-v3-small", "electra-small"])
def test_a_discriminator_teaches_the_generator_nothing(name):
    """He et al. 2023, section 3.3: the generator's embedding is learned from its own loss, the difference from the
    discriminator's."""
    config, _ = tiny(name)
    fields = config.model.model_dump() | {"embedding_sharing": "disentangled"}
    net = build(config.model_copy(update={"model": type(config.model).model_validate(fields)})).double()
    initialize(net, 0)
    inputs = batch(config)
    whole = net(**inputs)[0]
    generator = net.head.generator(**inputs)[0]
    found = gradients(net, whole - generator)
    kept = [part for part in found if found[part].abs().max() > 1e-9]  # the two losses of the generator cancel out
    assert "delta.weight" in kept and "blocks.1.attention.key.weight" in kept
    assert not any(part.startswith("replaced.generator") or part == "tokens.weight" for part in kept)
    assert not any(part.startswith("replaced.token_head") for part in kept)
    of_generator = gradients(net, generator)
    assert "tokens.weight" in of_generator and "delta.weight" not in of_generator
    own = ("replaced.generator.", "replaced.token_head.", "tokens.weight")
    assert all(part.startswith(own) for part in of_generator)


def test_the_difference_begins_at_nothing():
    """So that the first step is that of one embedding for both."""
    losses = []
    for sharing in ("whole", "disentangled"):
        config = preset("deberta-v3-small", width=32, heads=4, depth=2, generator_width=32, generator_heads=4,
                        generator_depth=1, vocabulary=320, embedding_sharing=sharing)  # fmt: skip
        net = build(config)
        initialize(net, 3)
        names = dict(net.named_parameters())
        assert ("delta.weight" in names) == (sharing == "disentangled")
        assert "delta.weight" not in names or not names["delta.weight"].any()
        losses.append(net(**batch(config))[0].item())
    assert losses[0] == losses[1]


def test_every_parameter_of_a_deberta_learns():
    config, net = tiny("deberta-v3-small")
    net(**batch(config))[0].backward()
    still = [name for name, one in net.named_parameters() if one.grad is None or not one.grad.any()]
    assert not still
