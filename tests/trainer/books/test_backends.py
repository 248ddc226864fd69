"""The books and the kernels know of one choice of backends: both sides are asked."""

from __future__ import annotations

import importlib
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parameter_cases import MODELS, OBJECTIVES
from probe_batches import micro_batch_of

from kernels import choice
from kernels.attention.spec import AttentionSpec
from trainer.books import kernels as planned
from trainer.books import memory
from trainer.books.activations import saved
from trainer.config import Config
from trainer.models import build

GPU = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)
CPU = SimpleNamespace(device=torch.device("cpu"), dtype=torch.bfloat16)
attention = importlib.import_module("kernels.attention")  # the module: the package holds the function of that name

USED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "window": {"left": 4, "right": 0},
    "segments": {"q_segments": torch.zeros(1, 4), "k_segments": torch.zeros(1, 4)},
    "order": {"q_order": torch.zeros(1, 4), "k_order": torch.zeros(1, 4), "strict": True},
    "softcap": {"softcap": 30.0},
    "sink": {"sink": torch.zeros(2)},
    "return_lse": {"return_lse": True},
    "dropout": {"dropout_p": 0.1, "seed": 3},
}
WITHOUT_SDPA = {"softcap", "sink", "return_lse", "dropout"}


@pytest.mark.parametrize("pair", list(itertools.combinations_with_replacement(USED, 2)), ids=" and ".join)
def test_auto_is_sdpa_where_it_can_and_else_triton_on_a_gpu(pair: tuple[str, str]) -> None:
    spec = AttentionSpec(**USED[pair[0]], **{k: v for k, v in USED[pair[1]].items() if k not in USED[pair[0]]})
    able = not WITHOUT_SDPA & set(pair)
    assert attention._choose(spec, GPU, "auto") == ("sdpa" if able else "triton")
    assert attention._choose(spec, CPU, "auto") == ("sdpa" if able else "reference")


@pytest.mark.parametrize("field", ["softcap", "sink"])
def test_a_mask_is_prepared_for_what_will_use_it(field: str) -> None:
    given = {"device": torch.device("cpu"), "causal": True}
    assert attention.prepare_mask(4, **given).backend == "sdpa"
    assert attention.prepare_mask(4, **given, fields=(field,)).backend == "reference"


def config_of(name: str, **more: Any) -> Config:
    made = {
        "model": {"depth": 2, "width": 64, "heads": 4} | MODELS[name],
        "tokenizer": {"vocabulary": 300},
        "data": {"sequence_length": 32},
        "optim": {"batch_size": 2},
        **({"objective": OBJECTIVES[name]} if name in OBJECTIVES else {}),
    }
    return Config.model_validate(made | more)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_planned_for_a_model_is_what_its_calls_choose(
    name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, chosen = attention._choose, set()

    def spy(spec: AttentionSpec, q: Any, backend: str, function: str = "attention", *fields: Any) -> str:
        if function == "attention":
            chosen.add(real(spec, GPU if device == "cuda" else CPU, backend))
        return real(spec, q, backend, function, *fields)

    monkeypatch.setattr(attention, "_choose", spy)
    config = config_of(name, engine={"device": device, "precision": "fp32"})
    model = build(config_of(name))
    model(**{key: torch.as_tensor(value) for key, value in micro_batch_of(config).items()})
    assert chosen == {planned.attention(config)}


@pytest.mark.parametrize("asked", ["auto", "triton", "chunked", "torch", "reference"])
def test_the_output_layer_runs_as_planned(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = importlib.import_module("trainer.models.parts")
    head = parts.OutputLayer(8, 16, bias=False, std=0.02)
    head.backend = asked
    ran: list[str] = []

    def fused(*_: Any, backend: str, **__: Any) -> Any:
        ran.append(backend)
        return SimpleNamespace(total=None, targets=None)

    monkeypatch.setattr(parts, "linear_cross_entropy", fused)
    head(torch.zeros(1, 4, 8), torch.zeros(1, 4, dtype=torch.int64))
    config = config_of("llama", engine={"device": "cpu"}, kernels={"loss": asked})
    plan = planned.output_layer(config)
    assert ran == ([] if plan is None else ["torch" if plan == "chunked" else plan])
    on_gpu = config_of("llama", engine={"device": "cuda"}, kernels={"loss": asked})
    assert planned.output_layer(on_gpu) == choice.output_layer_backend(asked, "cuda")


def test_a_plan_for_a_gpu_counts_the_mask_and_the_repeated_keys_of_sdpa() -> None:
    """Packed decoder, 8 layers of 1024 channels, 16 heads on 4, 16 sequences of 2048 tokens in bf16."""

    def peak(**kernels: str) -> int:
        shape = {"depth": 8, "width": 1024, "heads": 16, "kv_heads": 4}
        engine = {"device": "cuda", "precision": "bf16", "micro_batch": 16}
        made = {"model": shape, "data": {"sequence_length": 2048}, "optim": {"batch_size": 16}}
        return memory(Config.model_validate({**made, "engine": engine, "kernels": kernels})).total

    mask = 8 * 16 * 2048 * 2048 * 2  # layers x sequences x queries x keys, in two bytes
    repeated = 8 * 2 * 16 * 2048 * (16 - 4) * 64 * 2  # layers x (key, value) x tokens x heads more x channels
    assert peak() == peak(attention="sdpa") == peak(attention="triton") + mask + repeated


def test_a_plan_counts_what_the_ordered_backward_pass_holds() -> None:
    """dQ in float32 of one layer, and counters: while the first gradients are formed."""

    def planned_for(precision: str = "bf16", channels: int = 64, depth: int = 2, **kernels: str) -> Config:
        shape = {"depth": depth, "width": 16 * channels, "heads": 16, "kv_heads": 4}
        engine = {"device": "cuda", "precision": precision, "micro_batch": 16, "activation_checkpointing": False}
        made = {"model": shape, "data": {"sequence_length": 2000}, "optim": {"batch_size": 16}}
        kernels = {"attention": "triton", "backward": "ordered"} | kernels
        return Config.model_validate({**made, "engine": engine, "kernels": kernels})

    workspace = 4 * (16 * 16 * (2048 * 64 + 32) + 1)
    assert saved(planned_for(), 16, 2000, 0).workspace == workspace
    deep = memory(planned_for(depth=64)), memory(planned_for(depth=64, backward="two_pass"))
    assert deep[0].moment == "the first gradients"
    assert workspace / 2 < deep[0].total - deep[1].total <= workspace
    for other in ({"attention": "sdpa"}, {"precision": "fp32"}, {"channels": 128}):
        assert saved(planned_for(**other), 16, 2000, 0).workspace == 0
