"""ModernBERT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.family import ACTIVATIONS, Entry, Family, Json, Names, activation, both, only, required
from trainer.utils.errors import UserError


def _fields(config: Json, names: Names) -> dict[str, Any]:
    vocabulary, width, depth, heads, hidden = required(
        config, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"
    )
    only(config, attention_bias=False, mlp_bias=False, norm_bias=False, decoder_bias=True, classifier_bias=False)
    kinds = config.get("layer_types")
    every = config.get("global_attn_every_n_layers", 3)
    if kinds:
        rest = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
        every = rest[1] - rest[0] if len(rest) > 1 else max(depth, 2)
        if kinds != ["full_attention" if i % every == 0 else "sliding_attention" for i in range(depth)]:
            raise UserError("config.json: layer_types is not supported; every n-th layer, from the first on, is global")
    ropes = config.get("rope_parameters") or {}
    bases = [
        float((ropes.get(kind) or {}).get("rope_theta") or config.get(older) or default)
        for kind, older, default in (
            ("full_attention", "global_rope_theta", 160_000.0),
            ("sliding_attention", "local_rope_theta", 10_000.0),
        )
    ]
    return {
        "family": "encoder",
        "vocabulary": vocabulary,
        "max_length": config.get("max_position_embeddings", 8192),
        "depth": depth,
        "width": width,
        "heads": heads,
        "ffn_width": hidden,
        "activation": activation(config, "hidden_activation", "gelu"),
        "gated": True,
        "norm": "layernorm",
        "norm_epsilon": config.get("norm_eps", 1e-5),
        "first_norm": False,
        "position": "rotary",
        "rotary_base": bases[0],
        "rotary_base_local": bases[1],
        "window": None if every == 1 else config.get("local_attention", 128) // 2,  # 1: no layer is local
        "global_every": every,
        "embedding_norm": True,
        "bias": False,
        "tied": bool(config.get("tie_word_embeddings", True)),
        "head_transform": True,
        "head_bias": True,
    }


def _config(model: ModelConfig) -> dict[str, Any]:
    local = model.rotary_base if model.rotary_base_local is None else model.rotary_base_local
    return {
        "vocab_size": model.vocabulary,
        "max_position_embeddings": model.max_length,
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "intermediate_size": model.ffn_channels,
        "hidden_activation": ACTIVATIONS[model.activation],
        "classifier_activation": ACTIVATIONS[model.activation],
        "norm_eps": model.norm_epsilon,
        "layer_types": [
            "sliding_attention" if model.local(layer) else "full_attention" for layer in range(model.depth)
        ],
        "local_attention": 2 * (model.window or 0),
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": model.rotary_base},
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        },
        "tie_word_embeddings": model.tied,
        "initializer_range": model.init_std,
    }


def _entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("model.embeddings.tok_embeddings.weight", ("tokens.weight",))
    yield from both("model.embeddings.norm", "embedding_norm", bias=False)
    for i in range(model.depth):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        if i > 0:
            yield from both(f"{theirs}.attn_norm", f"{ours}.attention_norm", bias=False)
        queries = [f"{ours}.attention.{part}" for part in ("query", "key", "value")]
        yield from both(f"{theirs}.attn.Wqkv", *queries, bias=False)
        yield from both(f"{theirs}.attn.Wo", f"{ours}.attention.output", bias=False)
        yield from both(f"{theirs}.mlp_norm", f"{ours}.feed_forward_norm", bias=False)
        yield from both(f"{theirs}.mlp.Wi", f"{ours}.feed_forward.gate", f"{ours}.feed_forward.up", bias=False)
        yield from both(f"{theirs}.mlp.Wo", f"{ours}.feed_forward.down", bias=False)
    yield from both("model.final_norm", "norm", bias=False)
    yield from both("head.dense", "head.transform.dense", bias=False)
    yield from both("head.norm", "head.transform.norm", bias=False)
    yield Entry("decoder.bias", ("head.output.bias",))
    if not model.tied:
        yield Entry("decoder.weight", ("head.output.weight",))


MODERNBERT = Family(
    "modernbert",
    "ModernBertForMaskedLM",
    _fields,
    _config,
    _entries,
    aliases=(("decoder.weight", "model.embeddings.tok_embeddings.weight"),),
    prefix="model.",
)
