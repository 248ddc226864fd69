"""z-loss, capped logits, capped scores and sinks against plain formulas in float64, in every family and backend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.books import parameters
from trainer.config import Config
from trainer.models import build, initialize, learning_rate_scales
from trainer.models.losses import Z_TERM, without_added_terms
from trainer.models.parts import OutputLayer
from trainer.models.roles import roles

Z, CAP = 1e-2, 2.0
SIZE = {"depth": 2, "width": 32, "heads": 4, "vocabulary": 64, "max_length": 16}
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "decoder": ({"kv_heads": 2}, {"name": "causal"}),
    "encoder": (
        {
            "family": "encoder",
            "head_transform": True,
            "head_bias": True,
            "pooler": "pretraining",
            "sentence_head": True,
        },
        {"name": "masked_lm", "question": "nsp"},
    ),
    "discriminator": ({"family": "encoder", "generator_width": 16, "head_transform": True}, {"name": "replaced_token"}),
    "encoder-decoder": ({"family": "encoder_decoder", "position": "buckets"}, {"name": "span_corruption"}),
}


def config_of(family: str, **more: Any) -> Config:
    model, objective = FAMILIES[family]
    plain = {"model": SIZE | model | {"vocabulary": 320}, "objective": objective, "tokenizer": {"vocabulary": 300}}
    plain["data"] = {"sequence_length": 16}
    for key, value in more.items():
        plain[key] = plain.get(key, {}) | value
    return Config.model_validate(plain)


def net_of(config: Config) -> Any:
    net = build(config).double()
    initialize(net, 1)
    stream = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=stream, dtype=torch.float64))
    return net


def batch_of(family: str) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, 320, (3, 16), generator=stream)
    targets = torch.where(torch.rand(3, 16, generator=stream) < 0.4, tokens, -100)
    batch = {"tokens": tokens, "targets": targets, "segments": torch.zeros(3, 16, dtype=torch.int32)}
    if family == "encoder-decoder":
        batch |= {"source_tokens": tokens, "source_segments": batch["segments"]}
    return batch | ({"sentence_label": torch.tensor([0, 1, 1])} if family == "encoder" else {})


def language_head(net: Any) -> Any:
    head = net.head
    return head.generator.head if hasattr(head, "generator") else getattr(head, "language", head)


@pytest.mark.parametrize("loss", ["torch", "reference", "chunked"])
@pytest.mark.parametrize("family", FAMILIES)
def test_z_loss_and_capped_logits(family: str, loss: str) -> None:
    """What the terms add to loss and gradients is what the formula over whole logits adds."""
    off = config_of(family, kernels={"loss": loss})
    on = config_of(family, kernels={"loss": loss}, objective={"z_loss": Z}, model={"logit_softcap": CAP})
    net, plain, batch = net_of(on), net_of(off), batch_of(family)
    assert [name for name, _ in net.named_parameters()] == [name for name, _ in plain.named_parameters()]
    minimised, count, sums = net.train()(**batch)
    minimised.backward()

    kept: list[Tensor] = []
    layer = next(one for one in language_head(plain).modules() if isinstance(one, OutputLayer))
    inputs: list[Tensor] = []
    layer.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    before, same_count, _ = plain.train()(**batch)
    raw = inputs[0] * layer.scale @ layer.weight.t() + (0 if layer.bias is None else layer.bias)
    counted = batch["targets"] != -100
    capped = CAP * torch.tanh(raw[counted] / CAP)
    target = batch["targets"][counted]
    denominators = capped.exp().sum(dim=-1).log()
    cross_entropy = (denominators - capped[range(len(target)), target]).sum()
    z = Z * (denominators**2).sum()
    uncapped = torch.nn.functional.cross_entropy(raw[counted], target, reduction="sum")
    wanted = before - uncapped + cross_entropy + z
    if family != "discriminator":  # what its generator draws depends on the logits
        wanted.backward()
        kept = [one.grad for one in plain.parameters()]
        torch.testing.assert_close(minimised.double(), wanted, rtol=1e-6, atol=0)
        for one, gradient in zip(net.parameters(), kept, strict=True):
            torch.testing.assert_close(one.grad, gradient, rtol=1e-5, atol=1e-6)
    assert count == same_count == counted.sum()
    torch.testing.assert_close(sums[Z_TERM].double(), z, rtol=1e-6, atol=0)
    torch.testing.assert_close(without_added_terms(minimised, sums), minimised - sums[Z_TERM])
    if family == "discriminator":
        torch.testing.assert_close(sums["generator_loss"].double(), cross_entropy, rtol=1e-6, atol=0)
    assert Z_TERM not in net.eval()(**batch)[2]
    assert net.eval()(**batch)[0].item() < minimised.item()


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder"])
def test_logits_are_capped_wherever_they_are_made(family: str) -> None:
    net, plain = net_of(config_of(family, model={"logit_softcap": CAP})), net_of(config_of(family))
    batch = batch_of(family)
    inputs = {name: batch[name] for name in ("tokens", "segments", "source_tokens") if name in batch}
    found, raw = net.logits(**inputs), plain.logits(**inputs)
    torch.testing.assert_close(found, CAP * torch.tanh(raw / CAP))
    assert raw.abs().max().item() > CAP > found.abs().max().item()


def attention_by_hand(layer: Any, x: Tensor, source: Tensor, causal: bool, bias: Tensor | float = 0.0) -> Tensor:
    """One layer of attention, a head and a query at a time."""
    query, key, value = layer.projected(x, source)
    rows = []
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            heads = []
            for h in range(layer.heads):
                group = h * layer.kv_heads // layer.heads
                seen = i + 1 if causal else source.shape[1]
                scores = key[b, :seen, group] @ query[b, i, h] * layer.channels**-0.5
                if layer.softcap:
                    scores = layer.softcap * torch.tanh(scores / layer.softcap)
                if isinstance(bias, Tensor):
                    scores = scores + bias[h, i, :seen]
                weights = scores.exp()
                total = weights.sum() + (0 if layer.sinks is None else layer.sinks[h].exp())
                heads.append(weights @ value[b, :seen, group] / total)
            rows.append(torch.cat(heads))
    return layer.output(torch.stack(rows).view(*x.shape[:2], -1))


@pytest.mark.parametrize("terms", [{"score_softcap": 0.5}, {"sinks": True}, {"score_softcap": 0.5, "sinks": True}])
@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder"])
def test_every_attention_layer(family: str, terms: dict[str, Any]) -> None:
    """Also those that attend to a source; output, and gradients of all weights."""
    position = {} if family == "encoder-decoder" else {"position": "learned"}
    config = config_of(family, model=terms | position)
    net, batch = net_of(config), batch_of(family)
    calls: list[tuple[str, Any, Tensor, Tensor, Tensor]] = []
    for name, module in net.named_modules():
        if hasattr(module, "query_norm"):
            module.register_forward_hook(
                lambda layer, given, made, name=name: calls.append(
                    (name, layer, given[0], given[0] if "cross" not in name else given[1].source, made)
                )
            )
    net(**batch)
    assert len(calls) == (6 if family == "encoder-decoder" else 2)
    for name, layer, x, source, made in calls:
        causal = family == "decoder" or name.startswith("decoder.")
        if family == "encoder-decoder" and "cross" not in name:
            continue  # T5's bias of those is tested with the kernels
        by_hand = attention_by_hand(layer, x, source, causal and "cross" not in name)
        torch.testing.assert_close(made, by_hand)
        weights = list(layer.parameters())
        ours, theirs = (torch.autograd.grad(one.square().sum(), weights, retain_graph=True) for one in (made, by_hand))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)
        if layer.sinks is not None:
            assert float(torch.autograd.grad(made.square().sum(), layer.sinks, retain_graph=True)[0].abs().min()) > 0


def test_two_streams_with_sinks() -> None:
    """XLNet: rows whose query sees nothing stay zero, and the sink takes its share of the others."""
    shape = {"family": "encoder", "position": "relative", "two_stream": True, "token_types": 2, "sinks": True}
    plain = {"model": SIZE | shape | {"vocabulary": 320}, "objective": {"name": "permuted_lm"}}
    config = Config.model_validate(plain | {"tokenizer": {"vocabulary": 300}})
    net = net_of(config)
    batch = {"tokens": torch.randint(0, 320, (1, 8)), "order": torch.arange(8)[None]}
    mixed: list[Tensor] = []
    layer = net.backbone.blocks[0].attention
    layer.output.register_forward_pre_hook(lambda module, given: mixed.append(given[0]))
    net.logits(**batch)
    query_stream = mixed[0]
    assert not query_stream[0, 0].any() and bool(query_stream[0, 1].any())
    mixed.clear()
    with torch.no_grad():
        layer.sinks.fill_(100.0)
    net.logits(**batch)
    assert mixed[0].abs().max().item() < 1e-20  # all probability goes to the sink


def test_a_sink_begins_as_one_more_key_of_score_0_and_value_0() -> None:
    net = build(config_of("decoder", model={"sinks": True}))
    initialize(net, 0)
    sinks = [parameter for name, parameter in net.named_parameters() if name.endswith(".sinks")]
    assert len(sinks) == 2 and all(parameter.shape == (4,) and not parameter.any() for parameter in sinks)


@pytest.mark.parametrize("family", FAMILIES)
def test_books_roles_and_hash(family: str) -> None:
    plain, with_sinks = config_of(family), config_of(family, model={"sinks": True})
    net = build(with_sinks)
    count = sum(parameter.numel() for parameter in net.parameters())
    layers = {"decoder": 2, "encoder": 2, "discriminator": 4, "encoder-decoder": 6}[family]
    heads = 4 * layers if family != "discriminator" else 4 * 2 + 2 * 2
    assert parameters(with_sinks).total == count == parameters(plain).total + heads
    assert {role for name, role in roles(net).items() if name.endswith("sinks")} == {"vector"}
    off = {"model": {"sinks": False, "logit_softcap": None, "score_softcap": None}, "objective": {"z_loss": 0.0}}
    assert config_of(family, **off).science_hash() == plain.science_hash()
    on = [{"model": {"sinks": True}}, {"model": {"logit_softcap": 30.0}}, {"model": {"score_softcap": 50.0}}]
    hashes = {config_of(family, **one).science_hash() for one in [*on, {"objective": {"z_loss": 1e-4}}, {}]}
    assert len(hashes) == 5


def test_mup_leaves_sinks_and_caps_alone() -> None:
    """They are no matrices: learning rate and start do not depend on the width."""
    wide = config_of("decoder", model={"sinks": True, "logit_softcap": 30.0, "width": 64, "mup_base_width": 32})
    scales = learning_rate_scales(build(wide))
    assert {scale for name, scale in scales.items() if name.endswith("sinks")} == {1.0}
    assert min(scales.values()) == 0.5


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"kernels": {"attention": "sdpa"}, "model": {"sinks": True}}, "kernels.attention: sdpa has no model.sinks"),
        ({"kernels": {"attention": "sdpa"}, "model": {"score_softcap": 9.0}}, "sdpa has no model.score_softcap"),
        (
            {"model": {"family": "encoder", "position": "relative", "kv_heads": 4, "score_softcap": 9.0}},
            "position=relative scores",
        ),
        ({"model": {"logit_softcap": 0.0}}, "greater than 0"),
        ({"objective": {"z_loss": -1.0}}, "greater than or equal to 0"),
        ({"debug": {"noise_every": 2}, "optim": {"batch_size": 8}}, "set engine.micro_batch=4 or less"),
        ({"debug": {"noise_every": 2}, "optim": {"batch_size": 1}}, "raise optim.batch_size"),
        ({"debug": {"first_nonfinite": True}, "engine": {"compile": True}}, "leave engine.compile=false"),
        ({"debug": {"updates_every": 0}}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_said(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config_of("decoder", **more)
