"""GPT, GPT-2, GPT-NeoX and BLOOM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.family import ACTIVATIONS, Entry, Family, Json, Names, activation, both, only, required, rotary
from trainer.hub.family import rope_parameters as rope
from trainer.hub.layouts import TRANSPOSED, ByHead

QKV = ("query", "key", "value")


def _gpt_fields(config: Json, names: Names, *, norm_position: str, activation_key: str) -> dict[str, Any]:
    vocabulary, width, depth, heads = required(config, "vocab_size", "n_embd", "n_layer", "n_head")
    only(config, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    given = dict(config)
    if norm_position == "post" and given.get("afn", "gelu") == "gelu":
        given["afn"] = "gelu_new"  # GPT's "gelu" is the tanh one
    return {
        "family": "decoder",
        "vocabulary": vocabulary,
        "max_length": config.get("n_positions", 1024),
        "depth": depth,
        "width": width,
        "heads": heads,
        "ffn_width": config.get("n_inner") or 4 * width,
        "activation": activation(given, activation_key, "gelu_new"),
        "gated": False,
        "norm": "layernorm",
        "norm_epsilon": config.get("layer_norm_epsilon", 1e-5),
        "norm_position": norm_position,
        "position": "learned",
        "bias": True,
        "tied": bool(config.get("tie_word_embeddings", True)),
    }


def _gpt_config(model: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": model.vocabulary,
        "n_positions": model.max_length,
        "n_embd": model.width,
        "n_layer": model.depth,
        "n_head": model.heads,
        "layer_norm_epsilon": model.norm_epsilon,
        "tie_word_embeddings": model.tied,
        "initializer_range": model.init_std,
    }


def _gpt2_config(model: ModelConfig) -> dict[str, Any]:
    more = {"n_inner": model.ffn_channels, "activation_function": ACTIVATIONS[model.activation]}
    return _gpt_config(model) | more


def _gpt1_config(model: ModelConfig) -> dict[str, Any]:
    return _gpt_config(model) | {"afn": "gelu" if model.activation == "gelu_tanh" else ACTIVATIONS[model.activation]}


def _gpt_entries(model: ModelConfig) -> Iterator[Entry]:
    first = model.norm_position == "post"
    embedding, places = ("tokens_embed", "positions_embed") if first else ("wte", "wpe")
    yield Entry(f"transformer.{embedding}.weight", ("tokens.weight",))
    yield Entry(f"transformer.{places}.weight", ("positions.weight",))
    for i in range(model.depth):
        theirs, ours = f"transformer.h.{i}", f"blocks.{i}"
        yield from both(f"{theirs}.ln_1", f"{ours}.attention_norm")
        yield from both(f"{theirs}.attn.c_attn", *(f"{ours}.attention.{part}" for part in QKV), layout=TRANSPOSED)
        yield from both(f"{theirs}.attn.c_proj", f"{ours}.attention.output", layout=TRANSPOSED)
        yield from both(f"{theirs}.ln_2", f"{ours}.feed_forward_norm")
        yield from both(f"{theirs}.mlp.c_fc", f"{ours}.feed_forward.up", layout=TRANSPOSED)
        yield from both(f"{theirs}.mlp.c_proj", f"{ours}.feed_forward.down", layout=TRANSPOSED)
    if not first:
        yield from both("transformer.ln_f", "norm")
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


GPT2 = Family(
    "gpt2",
    "GPT2LMHeadModel",
    lambda config, names: _gpt_fields(config, names, norm_position="pre", activation_key="activation_function"),
    _gpt2_config,
    _gpt_entries,
    aliases=(("lm_head.weight", "transformer.wte.weight"),),
    prefix="transformer.",
    ignored=(r"\.attn\.(masked_)?bias$",),
)
GPT = Family(
    "openai-gpt",
    "OpenAIGPTLMHeadModel",
    lambda config, names: _gpt_fields(config, names, norm_position="post", activation_key="afn"),
    _gpt1_config,
    _gpt_entries,
    aliases=(("lm_head.weight", "transformer.tokens_embed.weight"),),
    prefix="transformer.",
    ignored=(r"\.attn\.bias$", r"position_ids$"),
)


def _neox_fields(config: Json, names: Names) -> dict[str, Any]:
    vocabulary, width, depth, heads, hidden = required(
        config, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"
    )
    only(config, attention_bias=True)
    scheme = dict(config.get("rope_parameters") or {})
    fraction = scheme.get("partial_rotary_factor") or config.get("rotary_pct") or 0.25
    older = {"rope_theta": config.get("rotary_emb_base", 10_000.0)}
    return {
        "family": "decoder",
        "vocabulary": vocabulary,
        "max_length": config.get("max_position_embeddings", 2048),
        "depth": depth,
        "width": width,
        "heads": heads,
        "ffn_width": hidden,
        "activation": activation(config, "hidden_act", "gelu"),
        "gated": False,
        "norm": "layernorm",
        "norm_epsilon": config.get("layer_norm_eps", 1e-5),
        "parallel": bool(config.get("use_parallel_residual", True)),
        "position": "rotary",
        "rotary_fraction": float(fraction),
        **rotary(older | dict(config)),
        "bias": True,
        "tied": bool(config.get("tie_word_embeddings", False)),
    }


def _neox_config(model: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": model.vocabulary,
        "max_position_embeddings": model.max_length,
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "intermediate_size": model.ffn_channels,
        "hidden_act": ACTIVATIONS[model.activation],
        "layer_norm_eps": model.norm_epsilon,
        "use_parallel_residual": model.parallel,
        "rope_parameters": rope(model) | {"partial_rotary_factor": model.rotary_fraction},
        "tie_word_embeddings": model.tied,
        "initializer_range": model.init_std,
    }


def _megatron_layers(model: ModelConfig, layers: str, attention: str) -> Iterator[Entry]:
    """Blocks as Megatron-LM named them; GPT-NeoX and BLOOM were trained with its descendants."""
    packed = ByHead(model.heads)
    for i in range(model.depth):
        theirs, ours = f"{layers}.{i}", f"blocks.{i}"
        parts = [f"{ours}.attention.{part}" for part in QKV]
        yield from both(f"{theirs}.input_layernorm", f"{ours}.attention_norm")
        yield from both(f"{theirs}.{attention}.query_key_value", *parts, layout=packed, bias_layout=packed)
        yield from both(f"{theirs}.{attention}.dense", f"{ours}.attention.output")
        yield from both(f"{theirs}.post_attention_layernorm", f"{ours}.feed_forward_norm")
        yield from both(f"{theirs}.mlp.dense_h_to_4h", f"{ours}.feed_forward.up")
        yield from both(f"{theirs}.mlp.dense_4h_to_h", f"{ours}.feed_forward.down")


def _neox_entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("gpt_neox.embed_in.weight", ("tokens.weight",))
    yield from _megatron_layers(model, "gpt_neox.layers", "attention")
    yield from both("gpt_neox.final_layer_norm", "norm")
    if not model.tied:
        yield Entry("embed_out.weight", ("head.weight",))


NEOX = Family(
    "gpt_neox",
    "GPTNeoXForCausalLM",
    _neox_fields,
    _neox_config,
    _neox_entries,
    aliases=(("embed_out.weight", "gpt_neox.embed_in.weight"),),
    prefix="gpt_neox.",
    ignored=(r"\.attention\.(masked_)?bias$", r"rotary_emb\.inv_freq$"),
)


def _bloom_fields(config: Json, names: Names) -> dict[str, Any]:
    (vocabulary,) = required(config, "vocab_size")
    only(config, apply_residual_connection_post_layernorm=False)
    width = config.get("hidden_size", config.get("n_embed", 64))
    return {
        "family": "decoder",
        "vocabulary": vocabulary,
        "depth": config.get("n_layer", config.get("num_hidden_layers", 2)),
        "width": width,
        "heads": config.get("n_head", config.get("num_attention_heads", 8)),
        "ffn_width": 4 * width,
        "activation": "gelu_tanh",
        "gated": False,
        "norm": "layernorm",
        "norm_epsilon": config.get("layer_norm_epsilon", 1e-5),
        "position": "alibi",
        "embedding_norm": True,
        "bias": True,
        "tied": bool(config.get("tie_word_embeddings", True)),
    }


def _bloom_config(model: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": model.vocabulary,
        "hidden_size": model.width,
        "n_layer": model.depth,
        "n_head": model.heads,
        "layer_norm_epsilon": model.norm_epsilon,
        "tie_word_embeddings": model.tied,
        "initializer_range": model.init_std,
    }


def _bloom_entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("transformer.word_embeddings.weight", ("tokens.weight",))
    yield from both("transformer.word_embeddings_layernorm", "embedding_norm")
    yield from _megatron_layers(model, "transformer.h", "self_attention")
    yield from both("transformer.ln_f", "norm")
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


BLOOM = Family(
    "bloom",
    "BloomForCausalLM",
    _bloom_fields,
    _bloom_config,
    _bloom_entries,
    aliases=(("lm_head.weight", "transformer.word_embeddings.weight"),),
    prefix="transformer.",
)
