"""Predicted memory against what the allocator of a real engine held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from parameter_cases import BART, BERT, DEBERTA, MODELS, T5, XLNET

from tests.ports import free_port
from trainer.books import memory
from trainer.config import Config

BUCKET = {"zero_optimization": {"reduce_bucket_size": 200_000}}
LARGE = {"depth": 4, "width": 128, "heads": 4, "vocabulary": 2048}
GPT2 = {"gated": False, "activation": "gelu_tanh", "norm": "layernorm", "position": "learned", "bias": True}

# name: model, objective, engine; in bf16 where the engine does not say otherwise
CASES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "llama, bf16": ({}, "causal", {}),
    "gpt2, fp32": (GPT2, "causal", {"precision": "fp32"}),
    "llama, fp32, accumulated": ({"kv_heads": 2}, "causal", {"precision": "fp32", "micro_batch": 2}),
    "llama, recomputed": ({"depth": 6}, "causal", {"activation_checkpointing": True}),
    "gpt2, fp32, recomputed": (GPT2 | {"depth": 6}, "causal", {"precision": "fp32", "activation_checkpointing": True}),
    "wide, states dominate": ({"width": 512, "heads": 8}, "causal", {"micro_batch": 1}),
    "bert, bf16": (BERT, "masked_lm", {}),
    "bert, stage 1": (BERT, "masked_lm", {"zero_stage": 1, "deepspeed": BUCKET}),
    "bart, bf16": (BART, "bart", {}),
    "t5, fp32": (T5, "span_corruption", {"precision": "fp32"}),
    "deberta, bf16": (DEBERTA | {"relative_buckets": 32, "relative_distance": 128}, "masked_lm", {}),
    "deberta, fp32": (
        DEBERTA | {"relative_buckets": None, "relative_distance": 200},
        "masked_lm",
        {"precision": "fp32"},
    ),
    "t5 of two depths, fp32": (T5 | {"depth": 6, "decoder_depth": 1}, "span_corruption", {"precision": "fp32"}),
    "bart of two depths, recomputed": (BART | {"decoder_depth": 9}, "bart", {"activation_checkpointing": True}),
    "llama, stage 1": ({}, "causal", {"zero_stage": 1, "deepspeed": BUCKET}),
    "llama, stage 2": ({"depth": 6}, "causal", {"zero_stage": 2, "deepspeed": BUCKET, "micro_batch": 4}),
    "llama, stage 3": ({}, "causal", {"zero_stage": 3, "deepspeed": BUCKET}),
    "llama, stage 1, default bucket": ({}, "causal", {"zero_stage": 1}),
}
CASES |= {
    "capped, with sinks, fp32": ({"score_softcap": 20.0, "sinks": True}, "causal", {"precision": "fp32"}),
    "capped, with sinks, bf16": ({"score_softcap": 20.0, "sinks": True}, "causal", {}),
    "z-loss, fp32": ({"vocabulary": 16384, "depth": 2}, "causal", {"precision": "fp32"}),
    "z-loss and capped logits, fp32": (
        {"vocabulary": 16384, "depth": 2, "logit_softcap": 30.0}, "causal", {"precision": "fp32"},
    ),
}  # fmt: skip
EXPERTS = {"count": 8, "width": 96}
CASES |= {
    "experts, bf16": ({"experts": EXPERTS}, "causal", {}),
    "experts, fp32, capacity": ({"experts": EXPERTS | {"capacity": 0.5}}, "causal", {"precision": "fp32"}),
    "many experts, shared, bf16": (
        {"experts": {"count": 16, "per_token": 4, "width": 64, "shared": 1, "dense_layers": 1}}, "causal", {},
    ),
    "experts, recomputed": ({"experts": EXPERTS, "depth": 6}, "causal", {"activation_checkpointing": True}),
    "t5 of experts, fp32": (T5 | {"experts": EXPERTS | {"every": 2}}, "span_corruption", {"precision": "fp32"}),
}  # fmt: skip
SELECTIVE = {"activation_checkpointing": "selective"}
CASES |= {
    "llama, every second": ({"depth": 6}, "causal", {"activation_checkpointing": 2}),
    "llama, fp32, every third": ({"depth": 7}, "causal", {"precision": "fp32", "activation_checkpointing": 3}),
    "bart, every second": (BART | {"decoder_depth": 6}, "bart", {"activation_checkpointing": 2}),
    "experts, every second": ({"experts": EXPERTS, "depth": 6}, "causal", {"activation_checkpointing": 2}),
    "t5, fp32, selective": (T5 | {"depth": 6}, "span_corruption", SELECTIVE | {"precision": "fp32"}),
    "t5, bf16, selective": (T5 | {"depth": 6}, "span_corruption", SELECTIVE),
    "deberta, bf16, selective": (
        DEBERTA | {"relative_buckets": 32, "relative_distance": 128, "depth": 6}, "masked_lm", SELECTIVE,
    ),
    "llama, bf16, selective": ({"depth": 6, "kv_heads": 2}, "causal", SELECTIVE),
}  # fmt: skip
SANDWICH = {"norm": "offset_rmsnorm", "norm_position": "sandwich", "qk_norm": "head"}
COHERE = {"parallel": True, "shared_norm": True, "norm": "layernorm", "qk_norm": "heads"}
CASES |= {
    "gemma, bf16": (SANDWICH, "causal", {}),
    "gemma, fp32": (SANDWICH, "causal", {"precision": "fp32"}),
    "command r+, bf16": (COHERE, "causal", {}),
    "command r+, fp32": (COHERE, "causal", {"precision": "fp32"}),
    "t5, sandwich, bf16": (T5 | {"norm_position": "sandwich"}, "span_corruption", {}),
}
FP8 = {"linear": "fp8"}
CASES |= {
    "llama, fp8": ({}, "causal", FP8),
    "gpt2, fp8": (GPT2, "causal", FP8),
    "relu, fp8": ({"gated": False, "activation": "relu"}, "causal", FP8),
    "albert, fp8": (BERT | {"embedding_width": 64, "shared_layers": True}, "masked_lm", FP8),
    "deberta, fp8": (DEBERTA | {"relative_buckets": 32, "relative_distance": 128}, "masked_lm", FP8),
    "t5, fp8": (T5, "span_corruption", FP8),
    "bart, fp8": (BART, "bart", FP8),
    "shared experts, fp8": ({"experts": EXPERTS | {"shared": 1, "dense_layers": 1}}, "causal", FP8),
    "llama, fp8, recomputed": ({"depth": 6}, "causal", FP8 | {"activation_checkpointing": True}),
    "llama, fp8, stage 3": ({}, "causal", FP8 | {"zero_stage": 3, "deepspeed": BUCKET}),
}
TILES = {"feed_forward_tile": 32}
CASES |= {
    "llama, tiles, bf16": ({"depth": 6, "ffn_width": 1024}, "causal", TILES),
    "gpt2, tiles, fp32": (GPT2 | {"depth": 6}, "causal", TILES | {"precision": "fp32"}),
    "llama, tiles, fp32, recomputed": (
        {"depth": 6, "ffn_width": 1024}, "causal", TILES | {"precision": "fp32", "activation_checkpointing": True},
    ),
    "bart, tiles, bf16": (BART, "bart", TILES),
}  # fmt: skip
CHUNKED = {"gpt2, fp32, chunked loss": (GPT2 | {"vocabulary": 16384}, "causal", {"precision": "fp32"})}
CHUNKED["llama, bf16, chunked loss"] = ({"vocabulary": 16384}, "causal", {})
CASES |= CHUNKED
# Positions that learn, of which PyTorch composes attention on a CPU; a generator before the model; states on the host.
ELECTRA, SMALL = MODELS["electra"], {"depth": 2, "width": 64}
LONG = {"depth": 2, "width": 64, "vocabulary": 512}
OFFLOAD = {"zero_stage": 1, "deepspeed": BUCKET, "offload_optimizer": True}
CASES |= {
    "xlnet, fp32": (XLNET, "permuted_lm", {"precision": "fp32"}),
    "xlnet, bf16": (XLNET, "permuted_lm", {}),
    "xlnet, recomputed": (XLNET | {"depth": 6}, "permuted_lm", {"activation_checkpointing": True}),
    "xlnet, small, bf16": (XLNET | SMALL, "permuted_lm", {}),
    "electra, fp32": (ELECTRA, "replaced_token", {"precision": "fp32"}),
    "electra, bf16": (ELECTRA, "replaced_token", {}),
    "electra, small, fp32": (ELECTRA | SMALL, "replaced_token", {"precision": "fp32"}),
    "electra, accumulated": (ELECTRA, "replaced_token", {"micro_batch": 2}),
    "deberta v3, fp32": (MODELS["deberta"], "replaced_token", {"precision": "fp32"}),
    "ul2, fp32": (T5, "ul2", {"precision": "fp32"}),
    "ul2, bf16": (T5, "ul2", {}),
    "ul2 of a decoder, bf16": ({}, "ul2", {}),
    "factorised, fp32": ({"embedding_width": 32}, "causal", {"precision": "fp32"}),
    "opt-350m, bf16": (MODELS["opt-350m"], "causal", {}),
    "offload, stage 1": ({}, "causal", OFFLOAD),
    "offload, stage 2, fp32": ({}, "causal", OFFLOAD | {"zero_stage": 2, "precision": "fp32", "micro_batch": 2}),
    "offload, stage 3": ({}, "causal", OFFLOAD | {"zero_stage": 3}),
    "offload of all, stage 3, fp32": (
        {}, "causal", OFFLOAD | {"zero_stage": 3, "offload_parameters": True, "precision": "fp32"},
    ),
    "xlnet, 512 tokens, fp32": (XLNET | LONG, "permuted_lm", {"precision": "fp32"}),
    "deberta v3, 512 tokens, bf16": (MODELS["deberta"] | LONG | {"generator_width": 32}, "replaced_token", {}),
    "t5, 512 tokens, bf16": (T5 | LONG, "span_corruption", {}),
}  # fmt: skip
# By the reference, of which nothing is fused, with dropout or without.
DROPOUT = {"dropout": 0.1, "attention_dropout": 0.1}
CASES |= {
    f"{name}, {precision}": (model, objective, {"precision": precision})
    for name, model, objective in (
        ("llama, dropped", {"kv_heads": 2} | DROPOUT, "causal"),
        ("t5, dropped", T5 | DROPOUT, "span_corruption"),
        ("xlnet, dropped", XLNET | DROPOUT, "permuted_lm"),
        ("deberta, dropped", DEBERTA | DROPOUT, "masked_lm"),
    )
    for precision in ("fp32", "bf16")
}
EXPERT_RANKS = {"zero_stage": 1, "expert_parallel": 2, "deepspeed": BUCKET}
ULYSSES = {"sequence_parallel": 2, "zero_stage": 1, "deepspeed": BUCKET}
RING, STAGE_3 = ULYSSES | {"sequence_kind": "ring"}, {"zero_stage": 3, "deepspeed": BUCKET}
OF_TWO: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "llama, ulysses": ({"kv_heads": 2}, "causal", ULYSSES),
    "llama, one key head, ulysses, fp32": ({"kv_heads": 1}, "causal", ULYSSES | {"precision": "fp32"}),
    "llama, ulysses, recomputed": ({"depth": 6}, "causal", ULYSSES | {"activation_checkpointing": True}),
    "llama, ring": ({"kv_heads": 2}, "causal", RING),
    "llama, ring, fp32": ({}, "causal", RING | {"precision": "fp32"}),
    "llama, ring, recomputed": ({"depth": 6}, "causal", RING | {"activation_checkpointing": True}),
    "experts of two ranks": ({"experts": EXPERTS}, "causal", EXPERT_RANKS),
    "experts of two ranks, fp32": ({"experts": EXPERTS}, "causal", EXPERT_RANKS | {"precision": "fp32"}),
    "experts of two ranks, stage 3": ({"experts": EXPERTS}, "causal", STAGE_3 | {"expert_parallel": 2}),
    "experts of two ranks, stage 3, fp32": (
        {"experts": EXPERTS}, "causal", STAGE_3 | {"expert_parallel": 2, "precision": "fp32"},
    ),
    "experts of two ranks, stage 3, half the wire": (
        {"experts": EXPERTS}, "causal", STAGE_3 | {"expert_parallel": 2, "wire": "bf16"},
    ),
    "experts of two ranks, stage 3, recomputed": (
        {"experts": EXPERTS, "depth": 6}, "causal", STAGE_3 | {"expert_parallel": 2, "activation_checkpointing": True},
    ),
    "llama, two ranks, stage 3": ({}, "causal", STAGE_3),
    "llama, partition": ({}, "causal", STAGE_3 | {"partition": 2}),
    "llama, kept": ({}, "causal", STAGE_3 | {"keep_gathered": True, "micro_batch": 2}),
    "llama, half the wire": ({}, "causal", STAGE_3 | {"wire": "bf16"}),
    "llama, stage 1, half the wire": ({}, "causal", {"zero_stage": 1, "deepspeed": BUCKET, "wire": "bf16"}),
    "llama, half of both": ({}, "causal", {"zero_stage": 3, "wire": "bf16", "wire_gradients": "bf16"}),
    "llama, stage 2, half the wire, recomputed": (
        {"depth": 6, "width": 256, "tied": False}, "causal",
        {"zero_stage": 2, "deepspeed": BUCKET, "wire": "bf16", "activation_checkpointing": True},
    ),
}  # fmt: skip
CASES |= OF_TWO
BY_DEFAULT = {"llama, bf16", "llama, ulysses", "xlnet, small, bf16", "electra, small, fp32", "offload, stage 1"}
SLOW = set(CASES) - BY_DEFAULT


def settings_of(name: str) -> dict[str, Any]:
    model, objective, engine = CASES[name]
    long = "512 tokens" in name
    noises = {"noises": ("text_infilling",)} if objective == "bart" else {}
    return {
        "model": LARGE | model,
        "objective": {"name": objective} | noises | ({"z_loss": 1e-4} if "z-loss" in name else {}),
        "tokenizer": {"vocabulary": 500 if long else 2000},
        "data": {"sequence_length": 512 if long else 128},
        "optim": {"batch_size": 2 if long else 8},
        "engine": {"precision": "bf16"} | engine | {"device": "cpu"},
        "kernels": {"loss": "chunked" if name in CHUNKED else "auto"},
        "launch": {"processes": 2 if name in OF_TWO else 1},
    }


def peak_of(settings: dict[str, Any]) -> int:
    """Bytes that the first rank's allocator held at the most."""
    ranks, port = settings["launch"]["processes"], str(free_port())
    command, started = [sys.executable, "-m", "tests.trainer.books.memory_probe", json.dumps(settings)], []
    for rank in range(ranks):
        place = {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank)}
        here = {**os.environ, **place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=here))
    answers = [process.communicate(timeout=300)[0] for process in started]
    assert not any(process.returncode for process in started)
    return int(json.loads(answers[0].strip().splitlines()[-1])["peak"])


@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.slow] * (one in SLOW)) for one in CASES])
def test_within_five_percent_of_the_allocator(name):
    settings = settings_of(name)
    peak = peak_of(settings)
    predicted = memory(Config.model_validate(settings))
    print(f"{name}: measured {peak / 1e6:.1f} MB, predicted {predicted.total / 1e6:.1f} MB at {predicted.moment}")
    assert predicted.total == pytest.approx(peak, rel=0.05)
