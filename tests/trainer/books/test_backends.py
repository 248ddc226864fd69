"""The books and the kernels know of one choice of backends: both sides are asked."""

from __future__ import annotations

import importlib
import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parameter_cases import MODELS, OBJECTIVES
from probe_batches import micro_batch_of

from kernels import choice
from trainer.books import kernels as planned
from trainer.books import memory, plan
from trainer.books.activations import saved
from trainer.config import Config
from trainer.models import build

attention = importlib.import_module("kernels.attention")  # the module: the package holds the function of that name


@pytest.mark.parametrize("field", ["softcap", "sink"])
def test_a_mask_is_prepared_for_what_will_use_it(field: str) -> None:
    given = {"device": torch.device("cpu"), "causal": True}
    assert attention.prepare_mask(4, **given).backend == "sdpa"
    assert attention.prepare_mask(4, **given, fields=(field,)).backend == "reference"


def config_of(name: str, fields: dict[str, Any] | None = None, **more: Any) -> Config:
    made = {
        "model": {"depth": 2, "width": 64, "heads": 4} | MODELS[name] | (fields or {}),
        "tokenizer": {"vocabulary": 300},
        "data": {"sequence_length": 32},
        "optim": {"batch_size": 2},
        **({"objective": OBJECTIVES[name]} if name in OBJECTIVES else {}),
    }
    return Config.model_validate(made | more)


Calls = set[tuple[tuple[str, ...], int | None]]  # of attention: the fields that were used, and the head size


def calls_of(config: Config, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What one forward pass of training asks of attention, and of the masks that it prepares."""
    real, calls = attention._choose, {"attention": set[Any](), "prepare_mask": set[Any]()}

    def spy(function: str, backend: str, fields: tuple[str, ...], device: Any, dtype: Any, head: int | None) -> str:
        calls[function].add((tuple(sorted(set(fields))), head))
        return str(real(function, backend, fields, device, dtype, head))

    monkeypatch.setattr(attention, "_choose", spy)
    model = build(config).train()
    batch = {key: torch.as_tensor(value) for key, value in micro_batch_of(config).items()}
    model(**batch | {"samples": torch.arange(len(batch["tokens"]))})
    # All that is called was prepared for; where every layer has a window, one more mask is.
    assert calls["attention"] <= calls["prepare_mask"]
    return calls["attention"]


SETTINGS: list[dict[str, Any]] = [
    {},
    {"data": {"sequence_length": 32, "packing": "padded"}},
    {"data": {"sequence_length": 32, "boundaries": False}},
]


def random_config(draw: random.Random) -> Config:
    """A model of the zoo with fields, an objective and a packing that it may have."""
    name = draw.choice(list(MODELS))
    more: dict[str, Any] = {"attention_dropout": draw.choice((0.0, 0.1))}
    decoder = "family" not in MODELS[name]
    if decoder and MODELS[name].get("position") is None:
        more |= {"window": draw.choice((None, 8)), "global_every": draw.choice((1, 2))}
    if decoder and "experts" not in MODELS[name]:
        more |= {"score_softcap": draw.choice((None, 20.0)), "sinks": draw.choice((False, True))}
    setting = dict(draw.choice(SETTINGS))
    if decoder:
        setting["objective"] = {"name": draw.choice(("causal", "fim", "prefix_lm"))}
    return config_of(name, {"head_size": draw.choice((8, 16, 20))} | more, **setting)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_planned_for_a_model_is_what_its_calls_choose(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    config = random_config(draw)
    calls = calls_of(config, monkeypatch)
    for chip in (None, "sm_70", "sm_80", "sm_90", "sm_100", "gfx942"):
        for device, precision in (("cpu", "fp32"), ("cuda", "bf16"), ("cuda", "fp32")):
            engine = {"device": device, "precision": precision}
            there = Config.model_validate(
                config.model_dump() | {"engine": engine, "machine": {"name": "one", "architecture": chip}}
            )
            half = precision == "bf16"
            chosen = {
                choice.attention_backend("auto", device, fields, None, choice.Setting(chip, head, half)).backend
                for fields, head in calls
            }
            assert chosen == {planned.attention(there, use) for use in planned.uses(there)}
    assert {
        (tuple(sorted(planned.attention_fields(config, use))), use.model.head_channels) for use in planned.uses(config)
    } == calls


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

    def peak(data: dict[str, Any] | None = None, **kernels: str) -> int:
        shape = {"depth": 8, "width": 1024, "heads": 16, "kv_heads": 4}
        engine = {"device": "cuda", "precision": "bf16", "micro_batch": 16}
        made = {"model": shape, "data": {"sequence_length": 2048, **(data or {})}, "optim": {"batch_size": 16}}
        return memory(Config.model_validate({**made, "engine": engine, "kernels": kernels})).total

    mask = 8 * 16 * 2048 * 2048 * 2  # layers x sequences x queries x keys, in two bytes
    repeated = 8 * 2 * 16 * 2048 * (16 - 4) * 64 * 2  # layers x (key, value) x tokens x heads more x channels
    assert peak() == peak(attention="triton") == peak(attention="sdpa") - mask - repeated
    # Rows of one document each: no segments, so no mask, and auto takes SDPA.
    alone = {"packing": "padded"}
    assert peak(alone) == peak(alone, attention="sdpa") == peak() + repeated


@pytest.mark.parametrize("name", ["llama", "t5", "gemma, local"])
def test_a_plan_for_a_gpu_says_once_what_computes_attention_and_why(name: str) -> None:
    engine = {"device": "cuda", "precision": "bf16"}
    notes = plan(config_of(name, engine=engine, machine={"name": "one", "architecture": "sm_90"})).notes
    (said,) = [note for note in notes if note.startswith("attention by ")]
    assert said.count("triton (") >= 1 and said.count("sdpa (") == 0
    assert ("no ratio of speed is stated" in said) == (name == "t5")  # for its buckets; all are packed
    assert "head size 16 on sm_90: triton is" in said and said.count("estimated: ") == 1
    assert not [note for note in plan(config_of(name, engine={"device": "cpu"})).notes if "attention by" in note]


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
    for other in ({"attention": "sdpa", "backward": "two_pass"}, {"precision": "fp32"}, {"channels": 128}):
        assert saved(planned_for(**other), 16, 2000, 0).workspace == 0
