"""Encoder-decoders whose decoder has a depth of its own: what is built, what it costs, and that it learns."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch

from trainer.books import flops, parameters
from trainer.books.parameters import count
from trainer.cli.main import main
from trainer.compose import compose
from trainer.data import Samples, prepare
from trainer.models import build, initialize

SMALL = ["data.sequence_length=64", "model.width=32", "model.heads=2", "model.ffn_width=48", "optim.batch_size=8"]
RECIPES = {
    "byt5": ["model=byt5-small", "tokenizer=bytes", "objective=byt5", "model.head_size=16"],
    "pegasus": ["model=pegasus-large", "objective=gap_sentences", "model.vocabulary=512", "tokenizer.vocabulary=512"],
    "bart": ["model=bart-base", "objective=bart", "model.vocabulary=512", "tokenizer.vocabulary=512"],
}


@pytest.mark.parametrize("name", RECIPES)
def test_three_steps(name, corpus, cache):
    depths = ["model.depth=3", "model.decoder_depth=1"]
    config = compose([*RECIPES[name], *SMALL, *depths, "data=text", f"data.path={corpus}", f"run.cache={cache}"])
    net = build(config)
    initialize(net, 0)
    assert (len(net.backbone.encoder.blocks), len(net.backbone.decoder.blocks)) == (3, 1)
    given = Samples(prepare(config), config, "train").batch(0, 8)
    batch = {name: torch.from_numpy(array) for name, array in given.items()}
    losses, optimizer = [], torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(4):
        loss, targets, _ = net(**batch)
        optimizer.zero_grad()
        (loss / targets).backward()
        optimizer.step()
        losses.append(float(loss / targets))
    assert all(later < earlier for earlier, later in pairwise(losses)), losses
    assert all(one.grad is not None and one.grad.any() for one in net.parameters())


def encoder_decoder(*words):
    return compose(["model=bart-base", "objective=bart", "model.depth=4", "model.width=32", "model.heads=2", *words])


def test_each_side_begins_by_its_own_depth():
    """GPT-2's rule: the projections into a residual stream of n blocks begin smaller by sqrt(2 n)."""
    config = encoder_decoder("model.decoder_depth=1", "model.init_residual=true", "model.init_std=0.5")
    with torch.device("meta"):
        backbone = build(config).backbone
    for stack, depth in ((backbone.encoder, 4), (backbone.decoder, 1)):
        for block in stack.blocks:
            for layer in (block.attention.output, block.feed_forward.down):
                assert layer.stds["weight"] == pytest.approx(0.5 / (2 * depth) ** 0.5)


def test_a_decoder_as_deep_as_the_encoder_is_none_of_its_own():
    null, same = encoder_decoder(), encoder_decoder("model.decoder_depth=4")
    assert parameters(null) == parameters(same) and flops(null) == flops(same)
    with torch.device("meta"):
        one, other = (build(config) for config in (null, same))
    assert [n for n, _ in one.named_parameters()] == [n for n, _ in other.named_parameters()]
    assert null.model.decoder_side is null.model and same.model.decoder_side.decoder_side == same.model


def test_recomputed_blocks_give_the_same_gradients():
    config = encoder_decoder("model.decoder_depth=2")
    found = []
    for recompute in (False, True):
        net = build(config).train()
        initialize(net, 0)
        net.recompute = recompute
        tokens = torch.arange(24).reshape(2, 12)
        net(tokens=tokens, source_tokens=tokens + 9, targets=tokens)[0].backward()
        found.append([parameter.grad for parameter in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True) if one is not None)


@pytest.mark.parametrize(("name", "size"), [("byt5-small", "20m"), ("byt5-base", "100m"), ("byt5-large", "1b")])
def test_the_size_dial_keeps_the_ratio_of_the_depths(name, size):
    config = compose([f"model={name}", "tokenizer=bytes", "objective=byt5", f"model.size={size}"])
    wanted = {"20m": 2e7, "100m": 1e8, "1b": 1e9}[size]
    assert abs(count(config.model, 384, 1024).published / wanted - 1) < 0.12
    model = config.model
    assert model.decoder_depth == max(1, round(model.depth / 3)) and model.depth >= 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["model=gpt-mini", "model.decoder_depth=2"],
            "decoder_depth: only an encoder_decoder has it, model.family is d",
        ),
        (["model=bart-base", "objective=bart", "model.decoder_depth=0"], "decoder_depth"),
        (["model=bart-base", "objective=bart", "model.decoder_depth=two"], "decoder_depth"),
        (["model=bart-base", "objective=bart", "model.size=30m", "model.decoder_depth=2"], "give one of the two"),
        (["model=xglm-564m", "model.width=33", "model.heads=3"], "sinusoidal positions need an even number, got 33"),
    ],
)
def test_bad_input(words, said, capsys):
    assert main(["plan", *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0]


def test_what_the_account_shows(capsys):
    assert main(["model", "model=byt5-small", "tokenizer=bytes", "objective=byt5"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"  layers +12\n  decoder layers +4\n", text) and "299,637,760" in text
