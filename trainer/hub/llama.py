"""Llama and OLMo 2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.family import ACTIVATIONS, Entry, Family, Json, Names, activation, both, only, required, rotary
from trainer.hub.family import rope_parameters as rope


def _fields(config: Json, names: Names) -> dict[str, Any]:
    vocabulary, width, depth, heads, hidden = required(
        config, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"
    )
    only(config, attention_bias=False, mlp_bias=False)
    return {
        "family": "decoder",
        "vocabulary": vocabulary,
        "max_length": config.get("max_position_embeddings", 2048),
        "depth": depth,
        "width": width,
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_size": config.get("head_dim") or width // heads,
        "ffn_width": hidden,
        "activation": activation(config, "hidden_act", "silu"),
        "gated": True,
        "norm": "rmsnorm",
        "position": "rotary",
        **rotary(config),
        "bias": False,
        "tied": bool(config.get("tie_word_embeddings", False)),
    }


def _llama_fields(config: Json, names: Names) -> dict[str, Any]:
    return _fields(config, names) | {"norm_epsilon": config.get("rms_norm_eps", 1e-6)}


def _olmo2_fields(config: Json, names: Names) -> dict[str, Any]:
    more = {"norm_epsilon": config.get("rms_norm_eps", 1e-5), "norm_position": "reordered", "qk_norm": "projection"}
    return _fields(config, names) | more


def _config(model: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": model.vocabulary,
        "max_position_embeddings": model.max_length,
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.key_heads,
        "intermediate_size": model.ffn_channels,
        "hidden_act": ACTIVATIONS[model.activation],
        "rms_norm_eps": model.norm_epsilon,
        "rope_parameters": rope(model),
        "tie_word_embeddings": model.tied,
        "initializer_range": model.init_std,
    }


def _llama_config(model: ModelConfig) -> dict[str, Any]:
    return _config(model) | {"head_dim": model.head_channels}


def _entries(model: ModelConfig) -> Iterator[Entry]:
    reordered = model.norm_position == "reordered"
    attention_norm = "post_attention_layernorm" if reordered else "input_layernorm"
    feed_forward_norm = "post_feedforward_layernorm" if reordered else "post_attention_layernorm"
    yield Entry("model.embed_tokens.weight", ("tokens.weight",))
    for i in range(model.depth):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        for name, part in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("o_proj", "output")):
            yield from both(f"{theirs}.self_attn.{name}", f"{ours}.attention.{part}", bias=False)
        if model.qk_norm != "none":
            yield from both(f"{theirs}.self_attn.q_norm", f"{ours}.attention.query_norm", bias=False)
            yield from both(f"{theirs}.self_attn.k_norm", f"{ours}.attention.key_norm", bias=False)
        for part in ("gate", "up", "down"):
            yield from both(f"{theirs}.mlp.{part}_proj", f"{ours}.feed_forward.{part}", bias=False)
        yield from both(f"{theirs}.{attention_norm}", f"{ours}.attention_norm", bias=False)
        yield from both(f"{theirs}.{feed_forward_norm}", f"{ours}.feed_forward_norm", bias=False)
    yield from both("model.norm", "norm", bias=False)
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


_TIED = (("lm_head.weight", "model.embed_tokens.weight"),)
_OLD = (r"rotary_emb\.inv_freq$",)
LLAMA = Family(
    "llama", "LlamaForCausalLM", _llama_fields, _llama_config, _entries, aliases=_TIED, prefix="model.", ignored=_OLD
)
OLMO2 = Family(
    "olmo2", "Olmo2ForCausalLM", _olmo2_fields, _config, _entries, aliases=_TIED, prefix="model.", ignored=_OLD
)
