"""What every family does with a batch: finite losses, one graph, nothing that depends on how rows are divided."""

from __future__ import annotations

import shutil

import pytest
import torch
from presets import DISCRIMINATORS, FAMILIES, batch, preset, side, tiny
from torch.nn import functional as F

from trainer.models import build, initialize
from trainer.models.replaced_token import row_noise, sample


@pytest.mark.parametrize("name", FAMILIES)
def test_padded_rows_stay_finite_and_weigh_nothing(name):
    config, net = tiny(name)
    inputs = batch(config)
    loss, count, _ = net(**inputs)
    empty = {key: value.clone() for key, value in inputs.items()}
    for key, value in empty.items():
        if key.endswith("segments"):
            value[1] = -1
        elif key in ("targets", "sentence_label"):
            value[1] = -100
    one, half, _ = net(**empty)
    one.backward()
    alone, _, _ = net(**{key: value[:1] for key, value in inputs.items()})
    assert 2 * int(half) == int(count) and torch.isfinite(loss)
    assert torch.allclose(one, alone, rtol=1e-6)
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_losses_add_up_over_micro_batches(name):
    config, net = tiny(name)
    inputs = batch(config)
    together, count, sums = net(**inputs)
    parts = [net(**{key: value[row : row + 1] for key, value in inputs.items()}) for row in (0, 1)]
    assert torch.allclose(together, parts[0][0] + parts[1][0], rtol=1e-6)
    assert int(count) == sum(int(part[1]) for part in parts)
    for name, value in sums.items():
        assert torch.allclose(value.double(), sum(part[2][name].double() for part in parts), rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_bf16_is_near_fp32(name):
    config, net = tiny(name)
    inputs = batch(config)
    exact, _, _ = net(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _, _ = net.float()(**inputs)
    rounded.backward()
    assert rounded.dtype == torch.float32
    assert abs(rounded.item() / exact.item() - 1) < (0.3 if name in DISCRIMINATORS else 0.05)  # draws other tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_recomputation_changes_nothing(name):
    config, net = tiny(name)
    inputs = batch(config)
    gradients = []
    for recompute in (False, True):
        net.recompute = recompute
        net.zero_grad()
        net(**inputs)[0].backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_one_graph(name):
    """The capture alone, without generating code."""
    config, net = tiny(name)
    inputs = batch(config)
    torch._dynamo.reset()
    with torch.no_grad():
        loss = torch.compile(net, fullgraph=True, backend="eager", dynamic=False)(**inputs)[0]
        assert torch.allclose(loss, net(**inputs)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_compiled(name):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler on CPU")
    config, net = tiny(name)
    net = net.float()
    inputs = batch(config)
    torch._dynamo.reset()
    loss = torch.compile(net, fullgraph=True, dynamic=False)(**inputs)[0]
    loss.backward()
    assert torch.allclose(loss, net(**inputs)[0], rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fresh_model_knows_nothing(name):
    """Logits of initial weights are small, so that the first loss is near that of guessing."""
    config = preset(name, depth=2, width=64, heads=4, vocabulary=320, head_size=None, ffn_width=None, kv_heads=None)
    if config.model.generator_width:
        pytest.skip("its first loss is dominated by the discriminator's")
    net = build(config)
    initialize(net, 0)
    tokens = side(24)["tokens"]
    with torch.no_grad():
        source = {"source_tokens": tokens} if config.model.family == "encoder_decoder" else {}
        logits = net.logits(tokens, **source)
        guess = F.cross_entropy(logits.flatten(0, 1), tokens.roll(1, 1).flatten())
    scale = {"t5": 8.0, "small": 8.0}.get(config.model.init, 7.0)
    assert 5.0 < float(guess) < scale  # ln 320 = 5.77


def test_weights_depend_on_the_seed_and_the_name_alone():
    config = preset("bert-base", depth=2, width=32, heads=2, vocabulary=320)
    nets = [build(config) for _ in range(3)]
    for net, seed in zip(nets, (0, 0, 1), strict=True):
        initialize(net, seed)
    one, same, other = (dict(net.named_parameters()) for net in nets)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    drawn = [value for value in one.values() if value.dim() == 2]
    assert all(0.015 < float(value.detach().std()) < 0.025 for value in drawn if value.numel() > 1000)


def test_samples_follow_the_distribution():
    logits = torch.randn(1, 1, 7, generator=torch.Generator().manual_seed(0))
    noise = (torch.arange(100_000).float() + 0.5)[None] / 100_000
    drawn = sample(logits.expand(1, 100_000, 7), noise)
    shares = torch.bincount(drawn.flatten(), minlength=7) / 100_000
    assert (shares - logits.softmax(-1).flatten()).abs().max() < 1e-4


def test_noise_is_uniform_and_a_function_of_the_document():
    tokens = torch.randint(0, 30_000, (64, 256), generator=torch.Generator().manual_seed(0))
    targets, segments = torch.where(tokens % 7 == 0, tokens, -100), torch.zeros_like(tokens, dtype=torch.int32)
    segments[:, 100:], segments[:, 250:] = 1, -1
    noise = row_noise(tokens, targets, segments)
    assert float(noise.min()) >= 0 and float(noise.max()) < 1
    counts = torch.histc(noise, 16, 0, 1)
    expected = noise.numel() / 16
    assert float(((counts - expected) ** 2 / expected).sum()) < 40  # chi square, 15 degrees: p < 0.001 beyond 37.7
    assert torch.equal(row_noise(tokens[5:6], targets[5:6], segments[5:6]), noise[5:6])
    changed = tokens.clone()
    changed[5, 0] += 1
    after = row_noise(changed, targets, segments)[5]
    assert not torch.isclose(after[:100], noise[5, :100]).any() and torch.equal(after[100:250], noise[5, 100:250])
