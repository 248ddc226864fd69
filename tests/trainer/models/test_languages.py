"""Embeddings of languages, and what a model learns of a pair: to read one side off the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from presets import preset, side, tiny

from trainer.books.parameters import parameters
from trainer.books.shapes import shapes
from trainer.config import Config
from trainer.descriptions.optimizers import size
from trainer.models import build, initialize
from trainer.objectives import Texts, Vocabulary, objective

WORDS, FIRST = 8, 10  # words of each language, and the first id of an ordinary one
SPECIALS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
VOCABULARY = Vocabulary(FIRST + 2 * WORDS, SPECIALS, lambda token: f" w{token}")
SIDE = 3  # words of a side


def test_a_language_is_a_row_that_is_added():
    _, net = tiny("xlm-mlm-ende-1024")
    stack, tokens = net.backbone, side(6)["tokens"]
    places = torch.arange(6).expand(2, 6)
    languages = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    plain = stack.tokens.weight[tokens] + stack.positions.weight[places]
    want = stack.embedding_norm(plain + stack.languages.weight[languages])
    assert torch.allclose(stack.embed(tokens, places, languages=languages), want)
    assert torch.allclose(stack.embed(tokens, places), stack.embedding_norm(plain))  # untold
    assert not torch.allclose(net.logits(tokens, languages=languages), net.logits(tokens))
    assert dict(net.named_parameters())["languages.weight"].shape == (2, 32)


def test_books_count_them():
    told, untold = preset("xlm-mlm-ende-1024"), preset("xlm-mlm-ende-1024", languages=[])
    assert parameters(told).total - parameters(untold).total == 2 * 1024
    assert shapes(told)["embedding", (2, 1024)] == 1
    assert sum(size(shape) * count for (_, shape), count in shapes(told).items()) == parameters(told).total


def model_of(told=True):
    fields = {"name": "xlm", "family": "encoder", "depth": 1, "width": 32, "heads": 1, "gated": False}
    fields |= {"activation": "gelu", "norm": "layernorm", "norm_position": "post", "position": "learned", "bias": True}
    fields |= {
        "embedding_norm": True,
        "head_bias": True,
        "init_residual": False,
        "init_std": 0.1,
        "vocabulary": 300,
        "max_length": 32,
    }
    fields |= {"languages": ["a", "b"]} if told else {"token_types": 2}
    parallel = {"a": ["a"], "b": ["b"]}
    data = {"name": "parallel", "parallel": parallel, "sequence_length": 2 * SIDE + 4, "packing": "padded"}
    objective = {"name": "tlm", "rate": 0.3, "mask_share": 1.0, "random_share": 0.0}
    return Config.model_validate(
        {"model": fields, "objective": objective, "data": data, "tokenizer": {"vocabulary": 300}}
    )


def pairs(count, first=0, *, aligned=True):
    """Rows `A </s> <s> B`: B says in its own words what A says; or, not aligned, what the row before says."""
    chance = np.random.default_rng(first)
    words = chance.integers(0, WORDS, (count, SIDE))
    other = words if aligned else np.roll(words, 1, axis=0)
    between = np.tile([SPECIALS["</s>"], SPECIALS["<s>"]], (count, 1))
    rows = np.concatenate([FIRST + words, between, FIRST + WORDS + (other * 7 + 3) % WORDS], axis=1)
    index = first + np.arange(count)
    return Texts(
        rows.ravel(), np.full(count, rows.shape[1]), index, index, index * 0, 0, language=np.tile([0, 1], (count, 1))
    )


def batch_of(config, count, first=0, *, aligned=True):
    built = objective(config, VOCABULARY)
    made = built.apply(pairs(count, first, aligned=aligned).window(built.length, 0))
    return {name: torch.from_numpy(array) for name, array in made.items()}


@pytest.mark.parametrize("told", [True, False])
def test_each_side_depends_on_the_other(told):
    config = model_of(told)
    net = build(config).double()
    initialize(net, 0)
    batch = {name: value for name, value in batch_of(config, 2).items() if name != "targets"}
    embedded = []
    net.backbone.tokens.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    logits = net.logits(**batch)
    for place in range(2 * SIDE + 4):
        (gradient,) = torch.autograd.grad((logits[:, place] ** 2).sum(), embedded[0], retain_graph=True)
        assert (gradient.abs().amax(dim=(0, 2)) > 0).all()
    positions = batch["positions"][0].tolist()
    assert positions == [*range(SIDE + 2), *range(SIDE + 2)]


def test_hidden_words_are_read_off_the_other_language():
    """On pairs whose words are drawn uniformly, one side alone allows no less than log(words) nats."""
    config = model_of()
    net = build(config)
    initialize(net, 0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    steps = 100
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1, (step + 1) / 10) * (1 - step / steps)
        loss, count, _ = net(**batch_of(config, 32, 32 * step))
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        aligned, shuffled = (
            (loss / count).item()
            for loss, count, _ in (net(**batch_of(config, 256, 10**6, aligned=one)) for one in (True, False))
        )
    alone = math.log(WORDS)
    assert aligned < 0.6 * alone and shuffled > alone, (aligned, shuffled, alone)
