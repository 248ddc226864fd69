"""With and without the cache the same logits, whatever sees what."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.generation import Decoding, Reader, search, write
from trainer.models import initialize, pretraining_model

SIZE = {"depth": 3, "width": 32, "heads": 4, "vocabulary": 96, "max_length": 64}
MODELS = {
    "grouped queries": {"kv_heads": 2},
    "one key head": {"kv_heads": 1},
    "window": {"window": 5},
    "window in two of three layers": {"window": 4, "global_every": 3, "kv_heads": 2},
    "the last of three layers global": {"window": 4, "global_every": 3, "global_last": True, "kv_heads": 2},
    "yarn in global layers": {
        **{"window": 4, "global_every": 2, "rotary_scaled": "global", "rotary_base_local": 50.0},
        **{"rotary_scaling": "yarn", "rotary_factor": 4.0, "rotary_original_length": 16},
    },
    "norms on both sides": {"norm": "offset_rmsnorm", "norm_position": "sandwich", "qk_norm": "head"},
    "branches side by side under one norm": {"parallel": True, "shared_norm": True, "qk_norm": "heads"},
    "alibi": {"position": "alibi"},
    "alibi and window": {"position": "alibi", "window": 6},
    "learned": {"position": "learned"},
    "sinusoids": {"position": "sinusoidal"},
    "sinusoids by the formula": {"position": "sinusoidal", "sinusoids": "formula"},
    "buckets": {"position": "buckets", "attention_scale": 1.0},
    "shared layers": {"shared_layers": True},
    "normed queries": {"qk_norm": "head"},
    "capped scores and logits": {"score_softcap": 3.0, "logit_softcap": 2.0, "kv_heads": 2},
    "sinks": {"sinks": True, "window": 5, "global_every": 2},
    "encoder-decoder, sinks": {"family": "encoder_decoder", "sinks": True, "score_softcap": 3.0},
    "experts": {"experts": {"count": 4, "capacity": 0.5, "shared": 1}},
    "encoder-decoder, experts": {"family": "encoder_decoder", "experts": {"count": 4, "balance": "bias"}},
    "encoder-decoder": {"family": "encoder_decoder"},
    "encoder-decoder, buckets": {"family": "encoder_decoder", "position": "buckets", "kv_heads": 2},
    "encoder-decoder of two depths": {"family": "encoder_decoder", "decoder_depth": 5, "window": 5, "global_every": 2},
    "encoder-decoder, window": {"family": "encoder_decoder", "position": "alibi", "window": 5},
}


def net_of(name: str):
    config = ModelConfig.model_validate(SIZE | MODELS[name])
    net = pretraining_model(config, 96, 64).eval()
    initialize(net, 0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
    return net


def draw(shape, seed=0) -> Tensor:
    return torch.randint(6, 96, shape, generator=torch.Generator().manual_seed(seed))


def readers(name: str, padded: bool, max_length: int = 64, **settings):
    """Two readers, with and without a cache, and the prompt and segments to read first."""
    net, prompt, segments = net_of(name), draw((3, 9)), None
    if padded:
        segments = torch.zeros_like(prompt)
        segments[1, :4] = -1
    both = []
    for cached in (True, False):
        if net.config.family == "encoder_decoder":
            both.append(Reader(net, 96, max_length, source=prompt, source_segments=segments, cached=cached))
        else:
            both.append(Reader(net, 96, max_length, cached=cached, **settings))
    if net.config.family == "encoder_decoder":
        return both, prompt[:, :1], None
    return both, prompt, segments


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_same_logits(name, padded):
    (cached, plain), prompt, segments = readers(name, padded)
    torch.testing.assert_close(cached.read(prompt, segments), plain.read(prompt, segments))
    for step in range(20):
        tokens = draw((3, 1 + step % 3), step)  # also several at once
        torch.testing.assert_close(cached.read(tokens), plain.read(tokens), rtol=1e-4, atol=1e-5)
    rows = torch.tensor([2, 0, 0, 1])
    cached.select(rows)
    plain.select(rows)
    tokens = draw((4, 1))
    torch.testing.assert_close(cached.read(tokens), plain.read(tokens), rtol=1e-4, atol=1e-5)


def test_a_prefix_sees_itself():
    """As the prefix LM's training: the prompt has order 0, what is written the orders behind it."""
    (cached, plain), prompt, _ = readers("grouped queries", False, sees_prompt=True)
    new = draw((3, 6), 5)
    for reader in (cached, plain):
        reader.read(prompt)
        got = [reader.read(new[:, column : column + 1]) for column in range(6)][-1]
        whole = torch.cat((prompt, new), dim=1)
        order = torch.tensor([0] * 9 + list(range(1, 7))).expand(whole.shape)
        want = net_of("grouped queries").logits(whole, order=order)[:, -1]
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(got, net_of("grouped queries").logits(whole)[:, -1], atol=1e-3)


@pytest.mark.parametrize("name", ["learned", "grouped queries", "encoder-decoder"])
def test_past_the_longest_length_the_last_half_is_read_anew(name):
    (cached, plain), prompt, _ = readers(name, False, max_length=12)
    for reader in (cached, plain):
        reader.read(prompt)
    for step in range(30):
        tokens = draw((3, 1), step)
        torch.testing.assert_close(cached.read(tokens), plain.read(tokens), rtol=1e-4, atol=1e-5)
        assert cached.cache.length <= 12
    if name == "learned":
        last = draw((3, 1), 99)
        got = cached.read(last)
        kept = cached.tokens[:, cached.first :]
        assert 6 <= kept.shape[1] <= 12 and torch.equal(kept[:, -1:], last)
        torch.testing.assert_close(got, net_of(name).logits(kept)[:, -1], rtol=1e-4, atol=1e-5)


def test_a_window_keeps_no_more_than_it_sees():
    (cached, _), prompt, _ = readers("window", False)
    cached.read(prompt)
    for step in range(30):
        cached.read(draw((3, 1), step))
    assert all(layer.length <= 6 and layer.stored.shape[2] <= 28 for layer in cached.cache.layers)


@pytest.mark.parametrize("name", ["window in two of three layers", "encoder-decoder, buckets"])
def test_same_text(name):
    (cached, plain), prompt, segments = readers(name, True)
    drawn = Decoding(tokens=30, temperature=1.0, top_p=0.9, seed=3)
    assert list(write(cached, prompt, segments, drawn, {7})) == list(write(plain, prompt, segments, drawn, {7}))
    (cached, plain), prompt, segments = readers(name, True)
    searched = Decoding(tokens=20, beams=4)
    assert search(cached, prompt, segments, searched, {7}) == search(plain, prompt, segments, searched, {7})
