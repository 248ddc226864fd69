"""Who may know what: gradients that must be exactly zero, for every family."""

from __future__ import annotations

import pytest
import torch
from presets import DECODERS, DISCRIMINATORS, ENCODER_DECODERS, ENCODERS, side, tiny

from trainer.models.block import summed


class Watched:
    """The embedded tokens of every call of an embedding, so that gradients can be taken with respect to them."""

    def __init__(self, embedding):
        self.outputs = []
        embedding.register_forward_hook(lambda module, inputs, output: self.outputs.append(output))


def influence(output, embedded):
    """Largest absolute gradient of `output`'s sum at each place of `embedded` [B, S, width]: [S]."""
    (gradient,) = torch.autograd.grad(output.sum(), embedded, retain_graph=True, allow_unused=True)
    return torch.zeros(embedded.shape[1]) if gradient is None else gradient.abs().amax(dim=(0, 2))


def packed(length=12, prefix=""):
    """Two documents of equal length and two places of padding in each row."""
    inputs = side(length, prefix)
    half = (length - 2) // 2
    inputs[f"{prefix}segments"] = torch.tensor([[0] * half + [1] * half + [-1] * 2] * 2, dtype=torch.int32)
    inputs[f"{prefix}positions"] = torch.tensor([[*range(half), *range(half), 0, 0]] * 2)
    return inputs, half


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_do_not_see_the_future(name):
    _, net = tiny(name)
    watched = Watched(net.backbone.tokens)
    logits = net.logits(side(10)["tokens"])
    for place in range(10):
        seen = influence(logits[:, place] ** 2, watched.outputs[0])
        assert (seen[place + 1 :] == 0).all() and (seen[: place + 1] > 0).all()


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_decoders_with_a_source_do_not_see_the_future(name):
    _, net = tiny(name)
    watched = Watched(net.backbone.tokens)
    logits = net.logits(side(10, seed=1)["tokens"], source_tokens=side(7)["tokens"])
    source, target = watched.outputs
    for place in range(10):
        seen = influence(logits[:, place] ** 2, target)
        assert (seen[place + 1 :] == 0).all() and (seen[: place + 1] > 0).all()
        assert (influence(logits[:, place] ** 2, source) > 0).all()


@pytest.mark.parametrize("name", DECODERS)
def test_a_prefix_sees_itself(name):
    """Ranks in place of causality: four tokens of one rank, then one rank each."""
    _, net = tiny(name)
    watched = Watched(net.backbone.tokens)
    order = torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4]] * 2)
    logits = net.logits(side(8)["tokens"], order=order)
    for place in range(8):
        seen = influence(logits[:, place] ** 2, watched.outputs[0]) > 0
        assert seen.tolist() == [rank <= int(order[0, place]) for rank in order[0].tolist()]


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_documents_of_one_row_do_not_see_each_other(name):
    _, net = tiny(name)
    watched = Watched(getattr(net.backbone, "delta", None) or net.backbone.tokens)
    inputs, half = packed()
    hidden = net.backbone(inputs["tokens"], inputs["positions"], inputs["segments"])
    for mine, other in ((slice(0, half), slice(half, None)), (slice(half, 2 * half), slice(0, half))):
        seen = influence(hidden[:, mine] ** 2, watched.outputs[0])
        assert (seen[other] == 0).all() and (seen[mine] > 0).all()
        assert (seen[2 * half :] == 0).all()


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
@torch.no_grad()
def test_a_packed_document_is_as_if_alone(name):
    _, net = tiny(name)
    inputs, half = packed()
    together = net.backbone(inputs["tokens"], inputs["positions"], inputs["segments"])
    alone = net.backbone(inputs["tokens"][:, half : 2 * half], inputs["positions"][:, half : 2 * half], None)
    assert (together[:, half : 2 * half] - alone).abs().max() < 1e-12


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_packed_pairs_do_not_see_each_other(name):
    _, net = tiny(name)
    watched = Watched(net.backbone.tokens)
    source, source_half = packed(16, "source_")
    target, half = packed(12)
    logits = net.logits(**source, **target)
    for mine, place in ((0, slice(0, half)), (1, slice(half, 2 * half))):
        for embedded, size in zip(watched.outputs, (source_half, half), strict=True):
            seen = influence(logits[:, place] ** 2, embedded)
            own = slice(mine * size, (mine + 1) * size)
            assert (seen[own] > 0).all()
            assert (seen[: own.start] == 0).all() and (seen[own.stop :] == 0).all()


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_the_generator_keeps_documents_apart(name):
    _, net = tiny(name)
    watched = Watched(net.backbone.tokens)
    inputs, half = packed()
    logits = net.head.generator.logits(inputs["tokens"], inputs["positions"], inputs["segments"])
    seen = influence(logits[:, :half] ** 2, watched.outputs[0])
    assert (seen[:half] > 0).all() and (seen[half:] == 0).all()


def test_the_query_stream_knows_no_content_of_its_own_or_later():
    """Yang et al. 2019, section 2.3: a target sees what comes before it in the order, not itself and not the rest."""
    _, net = tiny("xlnet-base")
    watched = Watched(net.backbone.tokens)
    order = torch.tensor([0, 3, 0, 1, 4, 2, 0, 5]).expand(2, 8)
    logits = net.logits(side(8)["tokens"], order=order)
    for place in range(8):
        rank = int(order[0, place])
        seen = influence(logits[:, place] ** 2, watched.outputs[0]) > 0
        assert seen.tolist() == [other < rank for other in order[0].tolist()]


def test_permuted_documents_do_not_see_each_other():
    _, net = tiny("xlnet-base")
    watched = Watched(net.backbone.tokens)
    inputs, half = packed()
    order = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 0]).expand(2, 12)
    stream, _ = net.backbone.two_streams(inputs["tokens"], inputs["positions"], inputs["segments"], order)
    seen = influence(stream[:, half : 2 * half] ** 2, watched.outputs[0])
    assert (seen[:half] == 0).all() and (seen[half : 2 * half - 1] > 0).all() and (seen[2 * half :] == 0).all()


def test_local_layers_see_their_window():
    """ModernBERT with all layers local: after one layer a token knows three to each side."""
    config, net = tiny("modernbert-base")
    net.backbone.depth = 2
    watched = Watched(net.backbone.tokens)
    local = net.config.model_copy(update={"global_every": 1})
    x = net.backbone.embed(side(16)["tokens"], side(16)["positions"])
    context = net.backbone.context(x, side(16)["positions"], None)
    assert config.model.local(1) and local.local(0) and not config.model.local(0)
    out = summed(*net.backbone.blocks[1](x, context))
    seen = influence(out[:, 8] ** 2, watched.outputs[0]) > 0
    assert seen.tolist() == [abs(place - 8) <= 3 for place in range(16)]
