"""The models of the trainer on every backend of the kernels: a switch changes speed, never the outcome."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("trainer.models")  # a bare GPU image lacks what it imports

from trainer.config import Config
from trainer.config.machinery import KernelsConfig
from trainer.models import build, initialize

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ("norm", "rotary", "gated", "loss")
FUSED = KernelsConfig(attention="triton", **dict.fromkeys(NAMES, "triton"))
PLAIN = KernelsConfig(attention="reference", **dict.fromkeys(NAMES, "reference"))
CHUNKED = KernelsConfig(attention="sdpa", norm="torch", rotary="torch", gated="torch", loss="chunked")

BERT = {"gated": False, "activation": "gelu", "norm": "layernorm", "norm_position": "post", "bias": True}

SIZE = {"depth": 2, "width": 32, "heads": 2, "vocabulary": 320}
MODELS = {
    "llama": ({"kv_heads": 1}, "causal"),
    "gpt2": (
        {"gated": False, "activation": "gelu_tanh", "norm": "layernorm", "position": "learned", "bias": True},
        "causal",
    ),
    "geglu, partial rotary": ({"activation": "gelu", "rotary_fraction": 0.5}, "causal"),
    "modern encoder": ({"family": "encoder", "activation": "gelu", "head_transform": True}, "masked_lm"),
    "t5": (
        {"family": "encoder_decoder", "position": "buckets", "activation": "gelu_tanh", "attention_scale": 1.0},
        "span_corruption",
    ),
    "bert": (BERT | {"family": "encoder", "position": "learned"}, "masked_lm"),
    "bart": (BERT | {"family": "encoder_decoder", "position": "learned"}, "span_corruption"),
    "olmo2": ({"norm_position": "reordered", "qk_norm": "projection"}, "causal"),
    "gemma": (
        {"norm": "offset_rmsnorm", "norm_position": "sandwich", "qk_norm": "head", "window": 5, "global_every": 2}
        | {"global_last": True, "rotary_base_local": 50.0, "activation": "gelu_tanh"},
        "causal",
    ),
    "cohere": (
        {"norm": "layernorm", "parallel": True, "shared_norm": True, "qk_norm": "heads", "rotary_scaling": "yarn"}
        | {"rotary_factor": 4.0, "rotary_original_length": 16, "logit_scale": 0.3},
        "causal",
    ),
}


def outcome(
    model: dict, objective: str, kernels: KernelsConfig, precision: torch.dtype | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch of packed documents; under autocast to `precision`, if given."""
    config = Config.model_validate(
        {
            "model": SIZE | model,
            "objective": {"name": objective},
            "data": {"sequence_length": 24},
            "tokenizer": {"vocabulary": 300},
            "kernels": kernels.model_dump(),
        }
    )
    built = build(config)
    initialize(built, 0)
    built.to(DEVICE)
    chance = torch.Generator().manual_seed(1)
    shape = (2, 24)

    def draw() -> torch.Tensor:
        return torch.randint(0, 320, shape, generator=chance)

    targets = draw()
    targets[:, ::3] = -100
    segments = (torch.arange(24) // 10).int().expand(shape).contiguous()
    positions = torch.arange(24).expand(shape)
    batch = {"tokens": draw(), "targets": targets, "segments": segments, "positions": positions}
    if config.model.family == "encoder_decoder":
        batch |= {"source_tokens": draw(), "source_segments": segments, "source_positions": positions}
    with torch.autocast(DEVICE, precision, enabled=precision is not None):
        loss, count, _ = built(**{name: tensor.to(DEVICE) for name, tensor in batch.items()})
    assert count == (targets >= 0).sum()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in built.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kernels", [FUSED, CHUNKED], ids=["triton", "chunked"])
@pytest.mark.parametrize("name", MODELS)
def test_same_loss_and_gradients(name, kernels):
    loss, gradients = outcome(*MODELS[name], kernels)
    wanted, oracles = outcome(*MODELS[name], PLAIN)
    assert torch.allclose(loss, wanted, rtol=2e-5), (loss, wanted)
    assert gradients.keys() == oracles.keys()
    largest = max(
        float(oracle.abs().max()) for oracle in oracles.values()
    )  # those of key biases are 0 but for rounding
    for parameter, oracle in oracles.items():
        assert torch.allclose(gradients[parameter], oracle, rtol=1e-3, atol=1e-6 * largest), parameter


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert"])
def test_under_autocast_the_error_is_that_of_autocast(name):
    """Of all gradients together, against float32: at most twice that of the plain formulas."""
    _, exact = outcome(*MODELS[name], PLAIN)

    def error(kernels: KernelsConfig) -> float:
        _, gradients = outcome(*MODELS[name], kernels, torch.bfloat16)
        return sum(float((gradients[p] - exact[p]).square().sum()) for p in exact) ** 0.5

    assert 0 < error(FUSED) <= 2 * error(PLAIN)


@pytest.mark.parametrize(
    ("name", "sums"), [("llama", 4), ("t5", 10), ("bert", 4), ("bart", 10), ("olmo2", 0), ("gemma", 4)]
)
def test_a_sum_and_the_norm_after_it_are_one_kernel(name, sums, monkeypatch):
    """Two layers a stack; the last sum of a block that normalises first meets the next norm."""
    from kernels.norm import triton as norm_triton

    added = []
    plain = norm_triton.run_norm
    monkeypatch.setattr(
        norm_triton, "run_norm", lambda x, residual, *more: added.append(residual) or plain(x, residual, *more)
    )
    outcome(*MODELS[name], CHUNKED.model_copy(update={"norm": "triton"}))
    assert sum(residual is not None for residual in added) == sums


@pytest.mark.parametrize(("name", "calls"), [("llama", 2), ("t5", 6)])
def test_the_ordered_backward_pass_is_asked_of_every_attention(name, calls, monkeypatch):
    from kernels.attention.triton import op

    walked = []
    plain = op.launch_ordered
    monkeypatch.setattr(op, "launch_ordered", lambda *given: walked.append(given) or plain(*given))
    loss, gradients = outcome(*MODELS[name], CHUNKED.model_copy(update={"attention": "triton", "backward": "ordered"}))
    wanted, oracles = outcome(*MODELS[name], PLAIN)
    assert len(walked) == calls
    torch.testing.assert_close(loss, wanted)
    largest = max(float(one.abs().max()) for one in oracles.values())
    for parameter, oracle in oracles.items():
        assert torch.allclose(gradients[parameter], oracle, rtol=1e-3, atol=1e-6 * largest), parameter
